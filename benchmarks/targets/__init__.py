"""What runtimes really get: exports of each target, judged in the runtime itself."""
