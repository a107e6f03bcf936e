"""What the service has child processes do: judging requests, answering prompts."""
