"""What a run writes to its output folder, and how it is read again."""
