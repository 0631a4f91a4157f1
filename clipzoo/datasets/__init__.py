"""Data: cases, their images, their captions, and how batches are drawn from them. Importing this package registers the datasets."""

from clipzoo.datasets import image_folder, pairs
from clipzoo.datasets.base import Dataset
from clipzoo.datasets.captions import Captions
from clipzoo.datasets.image_folder import ImageFolderDataset
from clipzoo.datasets.pairs import PairsDataset

__all__ = ["Captions", "Dataset", "ImageFolderDataset", "PairsDataset", "image_folder", "pairs"]
