"""The words of the served page, in English and in Chinese."""

from __future__ import annotations

from collections.abc import Mapping

_WORDS = {
    "title": ("Try the model", "试用模型"),
    "language": ("en", "zh-CN"),
    "images": ("Images: choose files, or drop them here", "图像：选择文件，或拖到这里"),
    "texts": ("Texts, one per line, in any language that the model reads", "文本，每行一条，可用模型能读的任何语言"),
    "classes": ("Empty: the classes of the training: {classes}", "留空则使用训练时的类别：{classes}"),
    "no_classes": ("The model has no classes of its own: write two or more lines", "模型没有自己的类别：请写两行或更多"),
    "no_texts": ("A classifier without a text tower: it knows the classes {classes}", "没有文本塔的分类器，类别为：{classes}"),
    "explain": ("Show what speaks for the most probable text", "显示支持最可能文本的部分"),
    "send": ("Classify", "分类"),
    "results": ("Results", "结果"),
    "explanation": ("what speaks for: {label}", "支持“{label}”的部分"),
    "neighbours": ("Nearest training cases", "最相近的训练病例"),
    "similarity": ("similarity", "相似度"),
    "label": ("class", "类别"),
    "case": ("case", "病例"),
    "model": ("The model", "模型"),
    "limits": (
        "At most {images} images and {texts} texts at a time, {megabytes} MB together. For research, not for diagnosis.",
        "每次最多 {images} 张图像和 {texts} 条文本，总共 {megabytes} MB。仅供研究，不用于诊断。",
    ),
}


def words_of(language: str) -> Mapping[str, str]:
    """The words of a language, which may be the header Accept-Language of a browser: Chinese if that comes first, else English."""
    chinese = language.strip().lower().startswith("zh")
    return {key: pair[chinese] for key, pair in _WORDS.items()}
