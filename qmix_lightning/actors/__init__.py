"""Modules that turn values into actions, as TorchRL names them."""
