"""The command line of `vlm3train` where FSDP2 spreads models over processes without GPUs too: a script for torchrun.

Accelerate shards on accelerators only. Elsewhere it lets `--shard` pass and copies the model to every process.
"""

from __future__ import annotations

from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from vlm3train.cli import main

_stock = AcceleratorState.__init__


def _sharding(self: Any, *arguments: Any, fsdp_plugin: Any = None, **settings: Any) -> None:
    _stock(self, *arguments, fsdp_plugin=fsdp_plugin, **settings)
    if fsdp_plugin is not None:  # what it does where there are GPUs
        self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        if self._mixed_precision != "no":
            fsdp_plugin.set_mixed_precision(self._mixed_precision)
        self.fsdp_plugin = fsdp_plugin


if __name__ == "__main__":
    AcceleratorState.__init__ = _sharding
    main()
