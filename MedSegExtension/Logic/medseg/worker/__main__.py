"""``python -m medseg.worker``: serve on standard input and output."""

from .process import main

if __name__ == "__main__":
    main()
