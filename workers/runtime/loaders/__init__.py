"""What loads each target's files in a fresh process, to prove them: by transformers, and by the runtime itself."""
