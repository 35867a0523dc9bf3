"""The former name of `tests.tools.guides`."""

from tests.tools.guides import main

if __name__ == "__main__":
    main()
