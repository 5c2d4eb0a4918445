"""`python -m renoise` is the same as `renoise`."""

from renoise.cli import main

if __name__ == "__main__":
    main()
