"""What every other package needs: processes, files, JSON lines, plugins, progress bars."""
