"""What every part of the product needs: processes, files, JSON lines."""
