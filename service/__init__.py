"""The HTTP shell over `faceswap`. Importing this package loads nothing."""
