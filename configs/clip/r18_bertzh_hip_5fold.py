"""ResNet-18 x Chinese BERT on radiographs of hip prostheses, five folds grouped by patient.

    python tools/train.py configs/clip/r18_bertzh_hip_5fold.py

Data: data/hip (drawn ones: python tools/make_sample_data.py hip). BERT's weights come from the Hugging Face hub; a local folder:
--cfg-options model.text_encoder.name=/path/to/bert-base-chinese; a small BERT from scratch: r18_bertsmall_hip_5fold.py
Expected: not measured.
"""

_base_ = [
    "../_base_/models/clip.py",
    "../_base_/data/hip.py",
    "../_base_/splits/5fold.py",
    "../_base_/schedules/adamw_cosine_100e.py",
    "../_base_/runtime/default.py",
]
