"""`python train_like.py fit|predict --config …`: the command line without installing it."""

from renoise.cli import main

if __name__ == "__main__":
    main()
