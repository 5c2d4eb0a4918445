"""What an editing method is, and how editors are found and run."""
