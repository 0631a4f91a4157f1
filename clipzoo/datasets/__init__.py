"""Datasets: cases, their images and captions, and batching. Importing this package registers the datasets."""

from clipzoo.datasets import image_folder, pairs, table, tiny_imagenet
from clipzoo.datasets.base import Dataset
from clipzoo.datasets.captions import Captions
from clipzoo.datasets.file_dataset import FileDataset
from clipzoo.datasets.image_folder import ImageFolderDataset
from clipzoo.datasets.pairs import PairsDataset
from clipzoo.datasets.shards.dataset import ShardPairs
from clipzoo.datasets.table import TableDataset
from clipzoo.datasets.tiny_imagenet import TinyImageNetDataset, create_dataloaders
from clipzoo.datasets.views import Views

__all__ = [
    "Captions",
    "Dataset",
    "FileDataset",
    "ImageFolderDataset",
    "PairsDataset",
    "ShardPairs",
    "TableDataset",
    "TinyImageNetDataset",
    "Views",
    "create_dataloaders",
    "image_folder",
    "pairs",
    "table",
    "tiny_imagenet",
]
