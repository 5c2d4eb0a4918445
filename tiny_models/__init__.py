"""The models that ship with the project: the world they live in, and how they were trained."""
