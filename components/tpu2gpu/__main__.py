"""`python -m tpu2gpu` is `tpu2gpu`."""

import sys

from tpu2gpu.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
