"""`python train_like.py fit|predict --config …` is the installed command `renoise fit|predict --config …`."""

from renoise.cli import main

if __name__ == "__main__":
    main()
