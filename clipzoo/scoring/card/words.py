"""The sentences of a model card, in English and in Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from clipzoo.scoring.paper_words import of_cases

# Metrics of findings, as ``METRICS``.
FINDINGS_METRICS = {
    "mean_auroc": ("Mean AUROC", "mean AUROC", "平均 AUROC"),
    "mean_average_precision": ("Mean average precision", "mean average precision", "平均 AP"),
    "binary_log_loss": ("Log loss per finding", "log loss per finding", "每个征象的对数损失"),
    "micro_f1": ("Micro F1", "micro F1", "微平均 F1"),
}
_COUNTED = ("counts", "counts_of_fold", "images", "pooled", "of_fold", "per_group", "joined")


@dataclass(frozen=True)
class CardWords:
    """Headings and sentences; ``{}`` marks what is filled in.

    Attributes:
        titles: Heading and column of what a model knows, by ``Described.answers``.
        knows: A sentence about the same.
        joined: How the probabilities of a group are joined, by ``Summary.join``.
        of_findings: Columns of the table of findings.
        metric_column: Column of ``METRICS``.
    """

    read_first: str
    optimistic: str
    unfinished: str
    repeated: str
    one_fold: str
    model: str
    kinds: dict[str, str]
    image_tower: str
    text_tower: str
    titles: Mapping[str, tuple[str, str]]
    weights: str
    random: str
    licence: str
    no_licence: str
    preprocessing: str
    preprocessed: str
    captions: str
    calibrated: str
    use: str
    intended: str
    limits: tuple[str, ...]
    knows: Mapping[str, str]
    sure: str
    data: str
    counts: str
    counts_of_fold: str
    images: str
    groups: str
    evaluation: str
    pooled: str
    of_fold: str
    per_group: str
    joined: Mapping[str, str]
    of_findings: Mapping[str, str]
    never_seen: str
    no_scores: str
    metric: str
    value: str
    interval: str
    conditional: str
    how: str
    reproduce: str
    versions: str
    seeds: str
    digests: str
    config: str
    metric_column: int
    colon: str

    def of_cases(self) -> CardWords:
        """The same for cases of several images: what is counted are cases."""
        return replace(self, **{name: of_cases(getattr(self, name)) for name in _COUNTED})


ENGLISH = CardWords(
    read_first="Read first",
    optimistic="**Optimistic:** the test cases also chose the epoch, so the scores below are too good.",
    unfinished="The cross-validation is not finished: there are no pooled scores and no intervals yet.",
    repeated="The cross-validation was repeated {number} times with other seeds; this is the first repeat only. `repeats.json` has "
    "all of them.",
    one_fold="One model, trained on a part of the data only (`{fold}`).",
    model="Model",
    kinds={
        "CLIP": "An image tower and a text tower with a joint space: it compares images with sentences.",
        "ImageClassifier": "An image tower with a classifier.",
        "": "A model of the class `{kind}`.",
    },
    image_tower="Image tower",
    text_tower="Text tower",
    titles={"classes": ("Classes", "class"), "findings": ("Findings", "finding"), "pairs": ("Classes", "class")},
    weights="{tower}: started from {origin}",
    random="random weights",
    licence="licence of these weights: {licence}",
    no_licence="The licence of this model is not set: choose one that the licences of the starting weights and of the data allow.",
    preprocessing="Preprocessing",
    preprocessed="{size} px, {interpolation}, {fit}, mean {mean}, standard deviation {std}",
    captions="Sentences of the classes",
    calibrated="Probabilities are calibrated with the temperature {temperature}, which was fitted on the val part.",
    use="Intended use and limits",
    intended="Research on images like those that it was trained on.",
    limits=(
        "**Not for diagnosis**, nor for any other decision about a person: it was not validated for that.",
        "Images from other devices, hospitals or times were not tested; score the model on your own before use.",
    ),
    knows={
        "classes": "It knows its classes and no others: it assigns one of them to any image, also to one that shows something else.",
        "findings": "It knows its findings and no others: it gives each of them a probability of its own, also for an image of something "
        "else. An image may have several of them or none.",
        "pairs": "It has no classes: it says how well a sentence fits an image, compared with others. The best of several sentences may "
        "still be wrong.",
    },
    sure="A probability says how sure the model is, not how often it is right on other data.",
    data="Training data",
    counts="{images} images in {groups} groups (patients), which no split divides.",
    counts_of_fold="`{fold}` of it: {train} images to train, {val} to choose the epoch, {test} to test.",
    images="images",
    groups="groups",
    evaluation="Evaluation",
    pooled="Out-of-fold predictions of {models} models, pooled: {cases} images of {groups} groups, each predicted by a model that was not "
    "trained on its group. Epoch: {selection}.",
    of_fold="Test part of `{fold}`: {cases} images. Epoch: {selection}.",
    per_group=" Every group counts once, with the joined probabilities of its images.",
    joined={
        "mean": " Every group counts once, with the mean of the probabilities of its images.",
        "max": " Every group counts once, with the largest probability of each class over its images.",
    },
    of_findings={
        **{"auroc": "AUROC", "average_precision": "average precision", "sensitivity": "sensitivity", "specificity": "specificity"},
        **{"ppv": "PPV", "npv": "NPV"},
    },
    never_seen="This model's own test part (`{fold}`): {metrics}.",
    no_scores="No scores are on record beside this model.",
    metric="metric",
    value="value",
    interval="{level} % interval",
    conditional="The intervals are over groups, for new cases scored by the models as trained. They do not cover "
    "training again or other data.",
    how="How to use it",
    reproduce="Reproduce",
    versions="Versions",
    seeds="Seeds",
    digests="Digests (SHA-256)",
    config="Config, without folders",
    metric_column=0,
    colon=": ",
)
CHINESE = CardWords(
    read_first="请先阅读",
    optimistic="**偏乐观：**测试病例也参与了训练轮次的选择，因此下面的分数偏高。",
    unfinished="交叉验证尚未完成：还没有合并分数和置信区间。",
    repeated="交叉验证用不同的随机种子重复了 {number} 次，这里只是第一次；全部结果见 `repeats.json`。",
    one_fold="这是只用部分数据训练的单个模型（`{fold}`）。",
    model="模型",
    kinds={
        "CLIP": "图像编码器与文本编码器共享同一空间，可将图像与句子比较。",
        "ImageClassifier": "图像编码器加分类器。",
        "": "类 `{kind}` 的模型。",
    },
    image_tower="图像编码器",
    text_tower="文本编码器",
    titles={"classes": ("类别", "类别"), "findings": ("征象", "征象"), "pairs": ("类别", "类别")},
    weights="{tower}：初始权重为{origin}",
    random="随机权重",
    licence="该权重的许可证：{licence}",
    no_licence="本模型尚未指定许可证：请在初始权重和数据的许可范围内选择。",
    preprocessing="预处理",
    preprocessed="{size} 像素，{interpolation}，{fit}，均值 {mean}，标准差 {std}",
    captions="各类别的句子",
    calibrated="概率已用温度 {temperature} 校准，该温度在验证部分上拟合。",
    use="用途与局限",
    intended="用于研究与训练数据相似的图像。",
    limits=(
        "**不可用于诊断**，也不可用于任何涉及个人的决定：未经此类验证。",
        "未在其他设备、医院或时期的图像上测试；使用前请先在自己的数据上评分。",
    ),
    knows={
        "classes": "模型只认识它的类别：对任何图像都会给出其中之一，即使图像内容与之无关。",
        "findings": "模型只认识它的征象：对任何图像都会给出每个征象各自的概率，即使图像内容与之无关。一张图像可以有多个征象，也可以没有。",
        "pairs": "模型没有类别：它给出句子与图像的匹配程度，只能相互比较。几个句子中最匹配的一个也可能是错的。",
    },
    sure="概率表示模型的把握，不代表它在其他数据上的正确率。",
    data="训练数据",
    counts="{groups} 组（患者）共 {images} 张图像，同一组不会被拆分。",
    counts_of_fold="其中 `{fold}`：{train} 张用于训练，{val} 张用于选择轮次，{test} 张用于测试。",
    images="图像",
    groups="组",
    evaluation="评估",
    pooled="{models} 个模型的折外预测合并：{groups} 组共 {cases} 张图像，每张都由未用其所在组训练的模型预测。轮次：{selection}。",
    of_fold="`{fold}` 的测试部分：{cases} 张图像。轮次：{selection}。",
    per_group="每组只计一次，合并其各图像的概率。",
    joined={
        "mean": "每组只计一次，取其各图像概率的平均值。",
        "max": "每组只计一次，取其各图像在每个类别上的最大概率。",
    },
    of_findings={
        **{"auroc": "AUROC", "average_precision": "平均精确率（AP）", "sensitivity": "灵敏度", "specificity": "特异度"},
        **{"ppv": "阳性预测值", "npv": "阴性预测值"},
    },
    never_seen="本模型自己的测试部分（`{fold}`）：{metrics}。",
    no_scores="该模型旁没有评分记录。",
    metric="指标",
    value="值",
    interval="{level} % 置信区间",
    conditional="区间以组为单位，针对由现有模型评分的新病例；不涵盖重新训练或其他数据的差异。",
    how="使用方法",
    reproduce="复现",
    versions="版本",
    seeds="随机种子",
    digests="摘要（SHA-256）",
    config="配置（不含文件夹路径）",
    metric_column=2,
    colon="：",
)
LANGUAGES = {"en": ENGLISH, "zh": CHINESE}
