"""`python -m taktora_trio`, the same as `taktora-trio`."""

from taktora_trio.cli import main

if __name__ == "__main__":
    main()
