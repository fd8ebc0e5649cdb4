"""Train a recipe under any launcher; the words are those of ``qmix fit``, and "fit" itself may be left out.

python recipes/train.py --config recipes/battle/3m.yaml
torchrun --nproc-per-node 2 recipes/train.py --config recipes/battle/3m.yaml
fabric run --devices 2 recipes/train.py --config recipes/battle/3m.yaml
srun python recipes/train.py --config recipes/battle/3m.yaml

Options of the Trainer are ``--trainer.devices`` and so on: ``fabric run`` takes a plain ``--devices`` for its own, also
behind the script.
"""

import sys

from qmix_lightning.cli.main import main

if __name__ == "__main__":
    if sys.argv[1:2] not in (["fit"], ["validate"], ["test"]):
        sys.argv.insert(1, "fit")
    main()
