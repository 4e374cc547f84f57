"""Shards: plain WebDataset tars, each committed by a manifest, indexed so that sample i is one range read.

Layout of a dataset directory:

    plan.parquet                which candidates belong into which shard
    shard-000000.tar            <key>.jpg (or <key>.0.jpg, <key>.1.jpg) and <key>.json; any tar reader will do
    shard-000000.manifest.json  its hash, counts and byte offsets; a tar without a manifest does not exist
    index.parquet               one row a sample, for questions about the data
    index.arrow                 shard, offset, length, xxh3 of every sample, memory-mapped by readers
    dataset.json                what was built from what; written last: the dataset exists when it does
"""

from vlm3data.shards.cache import ShardCache
from vlm3data.shards.index import INDEX_PARQUET, write_index
from vlm3data.shards.original import Unify
from vlm3data.shards.read import CorruptSampleError, Dataset, read_samples
from vlm3data.shards.verify import verify
from vlm3data.shards.write import ShardTally, committed, keep_only, manifests_of, summaries, summary_of, write_shard

__all__ = [
    "INDEX_PARQUET",
    "CorruptSampleError",
    "Dataset",
    "ShardCache",
    "ShardTally",
    "Unify",
    "committed",
    "keep_only",
    "manifests_of",
    "read_samples",
    "summaries",
    "summary_of",
    "verify",
    "write_index",
    "write_shard",
]
