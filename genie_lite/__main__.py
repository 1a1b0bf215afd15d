"""`python -m genie_lite` is `genie-lite`."""

from genie_lite.cli import main

if __name__ == "__main__":
    main()
