"""``python -m qmix_lightning`` is ``qmix``."""

from qmix_lightning.cli.main import main

if __name__ == "__main__":
    main()
