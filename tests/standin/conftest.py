"""Without StarCraft II's protocol there is nothing to speak, and nothing to collect examples from."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("s2clientprotocol") else ["session.py"]
