"""`python -m modelctl`: the same program as the `modelctl` script."""

from modelctl.cli.main import main

if __name__ == "__main__":
    main()
