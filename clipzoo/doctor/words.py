"""The sentences of the doctor, in English and in Chinese."""

from __future__ import annotations

from typing import Literal

Language = Literal["en", "zh"]

SENTENCES: dict[str, tuple[str, str]] = {
    # --- levels and headings ---
    "error": ("error", "错误"),
    "warning": ("warning", "警告"),
    "note": ("note", "提示"),
    "title": ("Data check of {name}", "数据检查：{name}"),
    "nothing": ("Nothing to report.", "没有发现问题。"),
    "counts": ("errors {errors}, warnings {warnings}, notes {notes}", "错误 {errors}，警告 {warnings}，提示 {notes}"),
    "more": ("… and {n} more, see {file}", "……另有 {n} 项，见 {file}"),
    "budget": (
        "At most {pictures} pictures of {pixels} pixels are shown; data_report.json lists up to {most} cases of every finding.",
        "最多显示 {pictures} 张 {pixels} 像素的图；data_report.json 对每项发现最多列出 {most} 例。",
    ),
    "not_shown": ("not shown", "未显示"),
    "borders": ("Mean border of each class", "各类别边缘的平均图"),
    "class": ("class", "类别"),
    "images": ("images", "图像"),
    "groups": ("groups", "组"),
    "unreadable_column": ("unreadable", "无法读取"),
    "repeated_column": ("in pairs", "成对"),
    "without_class": ("(none)", "（无）"),
    "folds_line": ("folds", "折"),
    "formats_line": ("formats", "格式"),
    "sizes_line": ("sizes", "尺寸"),
    "tokens_line": ("tokens", "token"),
    "border_line": ("border", "边缘"),
    "sizes": ("{low} to {high} px, median {median} px (longer side)", "{low} 至 {high} 像素，中位数 {median} 像素（长边）"),
    "tokens": (
        "{n} captions, median {median}, longest {longest}, {context} fit",
        "{n} 条描述，中位数 {median}，最长 {longest}，上限 {context}",
    ),
    "texts_skipped": ("captions were not tokenised: {why}", "未对描述做分词：{why}"),
    "no_text_tower": ("the model has no text tower", "模型没有文本塔"),
    "no_model": ("the config has no model", "配置中没有模型"),
    "border_score": (
        "balanced accuracy from the border alone {value} [{low}, {high}], chance {chance}",
        "仅凭边缘的平衡准确率 {value} [{low}, {high}]，随机水平 {chance}",
    ),
    "border_skipped": ("not probed: {why}", "未检验：{why}"),
    "no_classes": ("the images have no single class", "图像没有唯一的类别"),
    "no_folds": ("there are no folds", "没有折"),
    "too_few": ("too few images", "图像太少"),
    # --- data set, classes ---
    "dataset": ("the data set cannot be read: {why}", "无法读取数据集：{why}"),
    "refused": ("training refuses these data: {why}", "训练会拒绝这些数据：{why}"),
    "folds": ("the data cannot be split into the config's folds: {why}", "无法按配置划分数据：{why}"),
    "remark": ("{why}", "{why}"),
    "absent": (
        "class '{name}' ({groups} groups) is missing from the {part} part of {folds}",
        "类别“{name}”（{groups} 组）不在 {folds} 的 {part} 部分",
    ),
    "imbalance": (
        "the largest class has {ratio} times as many images as the smallest: {large} {most}, {small} {least}",
        "最大类别的图像是最小类别的 {ratio} 倍：{large} {most} 张，{small} {least} 张",
    ),
    "patients": (
        "names look as if patients had several images, such as {one} and {other}, but every image is its own group. "
        "If so, set data.dataset.group_pattern={pattern!r}: {n} images, {groups} groups",
        "文件名看上去像是一个病人有多张图像，例如 {one} 和 {other}，但每张图像自成一组。"
        "如果是，请设置 data.dataset.group_pattern={pattern!r}：{n} 张图像，{groups} 组",
    ),
    # --- files ---
    "unreadable": ("images that cannot be read: {n}", "{n} 张图像无法读取"),
    "truncated": (
        "files without their last bytes, although the pixels can be decoded: {n}. Copy them again",
        "{n} 个文件缺少末尾字节，但像素仍可解码。请重新拷贝",
    ),
    "ending": (
        "files with the ending of another format: {n}. They are read by their content; other programs may fail",
        "{n} 个文件的扩展名属于另一种格式。这里按内容读取；其他程序可能出错",
    ),
    "cmyk": (
        "CMYK images, a format for printing: {n}. They are converted without a colour profile",
        "{n} 张图像是用于印刷的 CMYK，转换时不使用颜色配置文件",
    ),
    "depth": (
        "images with more than 8 bits per channel: {n} of {total}. Grey ones are rescaled from their own range (DICOM: by their window)",
        "{total} 张图像中有 {n} 张每通道超过 8 位。灰度图按各自的取值范围缩放（DICOM 按窗位窗宽）",
    ),
    "mixed_depth": (
        "images with more than 8 bits per channel: {n} of {total}. The others have 8, so that brightness is not comparable",
        "{total} 张图像中有 {n} 张每通道超过 8 位，其余不是，因此亮度不可比",
    ),
    "orientation": (
        "images stored rotated or mirrored (EXIF orientation): {n}. They are turned upright here; other programs may not do so",
        "{n} 张图像以旋转或镜像方式存储（EXIF 方向）。这里会转正；其他程序未必如此",
    ),
    "tiny": ("tiny images, with a shorter side below {limit} pixels: {n}", "{n} 张图像过小：短边不足 {limit} 像素"),
    "huge": (
        "huge images, with a longer side above {limit} pixels: {n}. Reading them slows training down",
        "{n} 张图像过大：长边超过 {limit} 像素。读取它们会拖慢训练",
    ),
    "flat": ("images of one colour: {n}", "{n} 张图像只有一种颜色"),
    # --- pairs ---
    "copies_conflict": ("pairs of equal images in two classes: {n}", "{n} 对相同的图像属于两个类别"),
    "copies_leak": (
        "pairs of equal images in two parts of a fold: {n}. A model would be tested on what it has learned",
        "{n} 对相同的图像在同一折的两个部分，模型会在学过的图像上测试",
    ),
    "copies_groups": ("pairs of equal images in two groups: {n}", "{n} 对相同的图像属于两个组"),
    "copies_inside": ("pairs of equal images in one class and group: {n}", "{n} 对相同的图像在同一类别和同一组内"),
    "near_conflict": ("pairs of nearly equal images in two classes: {n}", "{n} 对近似相同的图像属于两个类别"),
    "near_leak": (
        "pairs of nearly equal images in two parts of a fold: {n}. Set data.near_duplicates='group', or remove one of them",
        "{n} 对近似相同的图像在同一折的两个部分。请设置 data.near_duplicates='group'，或删除其中之一",
    ),
    "near_groups": (
        "pairs of nearly equal images in two groups: {n}. With other folds they may be in two parts, unless data.near_duplicates='group'",
        "{n} 对近似相同的图像属于两个组，换一种划分就会进入两个部分，除非设置 data.near_duplicates='group'",
    ),
    "near_inside": ("pairs of nearly equal images in one class and group: {n}", "{n} 对近似相同的图像在同一类别和同一组内"),
    "too_many_pairs": (
        "the search for nearly equal images ended after {n} pairs. Remove these, and run the check again",
        "找到 {n} 对近似相同的图像后停止了搜索。请删除它们，再检查一次",
    ),
    "bytes": ("same bytes", "字节相同"),
    "pixels": ("same pixels", "像素相同"),
    "near": ("similarity {similarity}", "相似度 {similarity}"),
    "mirrored": ("mirrored, similarity {similarity}", "镜像，相似度 {similarity}"),
    "in_fold": ("{one} and {other} of {fold}", "{fold} 的 {one} 与 {other}"),
    # --- border and texts ---
    "border": (
        "the border alone predicts the class: balanced accuracy {value} [{low}, {high}], chance {chance}{classes}. On radiographs, look "
        "for burned-in text, laterality marks or collimation that differ between classes. In photographs, and wherever the subject "
        "reaches the border, this is to be expected",
        "仅凭边缘就能预测类别：平衡准确率 {value} [{low}, {high}]，随机水平 {chance}{classes}。X 光片请查看各类别之间不同的烧录文字、"
        "左右标记或准直边。普通照片，以及主体延伸到边缘的图像，出现这种情况很正常",
    ),
    "border_class": ("; class '{name}' against the others: AUROC {auroc}", "；类别“{name}”与其他类别相比：AUROC {auroc}"),
    "text_error": ("{why}", "{why}"),
    "text": ("{why}", "{why}"),
    "placeholder": (
        "captions with what looks like an unfilled placeholder or an empty cell: {n}, such as '{caption}'",
        "{n} 条描述含有像是未填写的占位符或空单元格的内容，例如“{caption}”",
    ),
}


class Words:
    """Sentences in one language.

    >>> Words('en')('flat', n=2)
    'images of one colour: 2'
    """

    def __init__(self, language: Language = "en"):
        self.language = language

    def __call__(self, key: str, **values: object) -> str:
        """The sentence of ``key``, filled in."""
        return SENTENCES[key][self.language == "zh"].format(**values)
