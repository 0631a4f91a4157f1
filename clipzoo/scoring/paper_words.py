"""The sentences of the paragraph on methods, in English and in Chinese."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace

# Metric: in the table, within an English sentence, within a Chinese sentence.
METRICS: dict[str, tuple[str, str, str]] = {
    "accuracy": ("Accuracy", "accuracy", "准确率"),
    "balanced_accuracy": ("Balanced accuracy", "balanced accuracy", "平衡准确率"),
    "macro_f1": ("Macro F1", "macro F1", "宏平均 F1"),
    "macro_precision": ("Macro precision", "macro precision", "宏平均精确率"),
    "macro_recall": ("Macro recall", "macro recall", "宏平均召回率"),
    "auroc": ("AUROC (macro)", "macro AUROC", "宏平均 AUROC"),
    "log_loss": ("Log loss", "log loss", "对数损失"),
    "quadratic_weighted_kappa": ("Quadratic-weighted kappa", "quadratic-weighted kappa", "二次加权 kappa"),
    "brier": ("Brier score", "Brier score", "Brier 分数"),
    "rsum": ("RSum", "RSum", "RSum"),
    **{
        f"{short}_{name}": (f"{title} {shown}", f"{title.lower()} {shown}", f"{zh}{zh_name}")
        for short, title, zh in (("i2t", "Image-to-text", "以图搜文"), ("t2i", "Text-to-image", "以文搜图"))
        for name, shown, zh_name in (
            *((f"r{k}", f"R@{k}", f" R@{k}") for k in (1, 5, 10)),
            ("mean_rank", "mean rank", "平均排名"),
            ("median_rank", "median rank", "排名中位数"),
            ("mrr", "MRR", " MRR"),
        )
    },
    "positive_similarity": ("Positive similarity", "similarity of positives", "正例相似度"),
    "negative_similarity": ("Negative similarity", "similarity of negatives", "负例相似度"),
    "similarity_gap": ("Similarity gap", "similarity gap", "相似度差"),
}


@dataclass(frozen=True)
class Words:
    """The sentences of one language; ``{…}`` are filled in by ``paper``.

    Attributes:
        language: ``'en'`` or ``'zh'``, which is the column of ``METRICS``.
        heading: Heading of the paragraph.
        space: Between sentences.
        comma: Between items.
        semicolon: Between items that contain commas.
        stop: End of a sentence made of several parts.
        range_text: Two different numbers.
        splits: Sentence by type of the splitter.
        methods: Name of an interval by its method, with its metrics.
        seeds: Seeds by name.
        test_views: Kinds of copies in test-time augmentation, by their name in ``evaluation.tta``.
    """

    language: str
    heading: str
    space: str
    comma: str
    semicolon: str
    stop: str
    range_text: str
    data: str
    grouped_data: str
    classes: str
    of_class: str
    of_class_in_groups: str
    colon: str
    unlabelled: str
    splits: Mapping[str, str]
    other_splits: str
    other_split: str
    whole_groups: str
    stratified: str
    per_fold: tuple[str, str]
    parts: str
    parts_without_val: str
    last_epoch: str
    best_epoch: str
    best_epoch_on_test: str
    wise_ft: str
    joined_groups: str
    joined_values: str
    tta: str
    test_views: Mapping[str, str]
    inner_folds: str
    out_of_fold: str
    joined: dict[str, str]
    tested: str
    never_seen: str
    not_trained_on: str
    units: tuple[str, str, str, str]
    intervals: str
    methods: Mapping[str, str]
    models: str
    one_model: str
    comparison: str
    one_baseline: str
    several_baselines: str
    holm: str
    software: str
    commit: str
    seeds: Mapping[str, str]
    device: str
    processes: str

    def of_cases(self) -> Words:
        """The same sentences about cases instead of images, for cases of several images."""
        kept = ("joined_groups", "joined_values", "tta", "test_views")
        return replace(self, **{f.name: of_cases(getattr(self, f.name)) for f in fields(self) if f.name not in kept})

    def join(self, sentences: Iterable[str]) -> str:
        """A paragraph."""
        return self.space.join(sentences)

    def sentence(self, parts: list[str]) -> str:
        """A sentence of several parts, or an empty string."""
        text = self.semicolon.join(parts)
        return text[:1].upper() + text[1:] + self.stop if text else ""

    def metric(self, name: str) -> str:
        """A metric within a sentence."""
        found = METRICS.get(name)
        return name if found is None else found[1 if self.language == "en" else 2]

    def metric_inside(self, name: str) -> str:
        """The same, with spaces between Chinese and Latin words."""
        found = self.metric(name)
        if self.language == "en":
            return found
        return " " * found[0].isascii() + found + " " * found[-1].isascii()

    def between(self, least: int, most: int) -> str:
        """A number, or a range."""
        return f"{least}" if least == most else self.range_text.format(least=least, most=most)

    def baselines(self, count: int) -> str:
        """A number of baselines."""
        return self.one_baseline if count == 1 else self.several_baselines.format(count=count)

    def group_or_image(self, grouped: bool) -> str:
        """What is resampled, in the singular."""
        return self.units[0] if grouped else self.units[1]

    def groups_or_images(self, grouped: bool) -> str:
        """The same in the plural."""
        return self.units[2] if grouped else self.units[3]


def of_cases(value: object) -> object:
    """The same sentence or sentences with cases in place of images."""
    if isinstance(value, str):
        return re.sub(r"(?<!{)\bimage(s?)\b", r"case\1", value).replace("张图像", "个病例").replace("图像", "病例").replace("张", "个")
    if isinstance(value, tuple):
        return tuple(map(of_cases, value))
    return {key: of_cases(item) for key, item in value.items()}


ENGLISH = Words(
    language="en",
    heading="Methods",
    space=" ",
    comma=", ",
    semicolon="; ",
    stop=".",
    range_text="{least} to {most}",
    data="The data set comprised {images} images{classes}{unlabelled}.",
    grouped_data="The data set comprised {images} images of {groups} groups (images that belong together, such as those of a patient)"
    "{classes}{unlabelled}.",
    classes=" in {count} classes ({listed})",
    of_class="{name}: n = {count}",
    of_class_in_groups="{name}: n = {count} of {groups} groups",
    colon=": ",
    unlabelled="; {count} images had no class",
    splits={
        "StratifiedGroupKFold": "We used {folds}-fold cross-validation{stratified}{whole_groups}.",
        "StratifiedKFold": "We used {folds}-fold cross-validation{stratified}.",
        "KFold": "We used {folds}-fold cross-validation, with folds drawn at random.",
        "Holdout": "We used a single split (holdout){stratified}{whole_groups}.",
        "AsGiven": "We used the split that is given with the data{whole_groups}.",
        "FromFile": "We used {folds} predefined folds{whole_groups}.",
        "FromFileOnce": "We used a predefined split{whole_groups}.",
    },
    other_splits="We used {folds} folds{whole_groups}.",
    other_split="We used a single split{whole_groups}.",
    whole_groups="; all images of a group were in the same part",
    stratified=", stratified by class",
    per_fold=("Per fold", "In this split"),
    parts="{per}, {train} images were used for training, {val} for validation and {test} for testing.",
    parts_without_val="{per}, {train} images were used for training and {test} for testing; there was no validation part.",
    last_epoch="The model of the last epoch was tested.",
    best_epoch="The model of the epoch with the best {metric} on the validation part was tested.",
    best_epoch_on_test="The epoch with the best {metric} on the test part was chosen, so that the results are optimistic.",
    wise_ft=" Its weights were averaged with those before training, in the proportion with the best {metric} on the validation part "
    "(WiSE-FT, Wortsman et al. 2022).",
    joined_groups="A case is all images of a group, {images} images in total; one network encoded each of them, and their features "
    "were averaged.",
    joined_values="A case is the images with one value of '{by}', {images} images in total; one network encoded each of them, and their "
    "features were averaged.",
    tta="The features of every scored image were averaged over it and copies that were {kinds} (test-time augmentation).",
    test_views={
        "flip": "mirrored",
        "rotations": "rotated by ±5 degrees",
        "zooms": "scaled by ±5 %",
        "shifts": "shifted by 2.5 % in four directions",
    },
    inner_folds="The number of epochs was chosen by {number}-fold cross-validation within the training part, as that with the best mean "
    "{metric}; the tested model was then trained on the whole training part for that number of epochs.",
    out_of_fold="Each of the {tested} images was scored exactly once, by a model that {seen} (out-of-fold predictions), "
    "and metrics were computed over all of these predictions at once.",
    joined={
        "mean": " Every group counts once, with the mean of the probabilities of its images.",
        "max": " Every group counts once, with the largest probability of each class over its images, rescaled to a sum of 1.",
    },
    tested="Metrics were computed over {tested} test images, each scored once by a model that {seen}.",
    never_seen="had never seen this {unit}",
    not_trained_on="had not been trained on this {unit}",
    units=("group", "image", "groups", "images"),
    intervals="Confidence intervals ({level} %) were computed over {units}, with standard errors from the leave-one-{unit}-out jackknife "
    "where the method needs one: {listed}. They are conditional on the {models}: they describe the uncertainty about new {units} of "
    "the same kind, not about another training (Bayle et al. 2020, Cross-validation confidence intervals for test error).",
    methods={
        "wilson": "Wilson score interval ({metrics})",
        "effective_wilson": "Wilson score interval on the effective sample size ({metrics})",
        "logit_t": "t interval on the logit scale ({metrics})",
        "mover": "MOVER, from the intervals of the metrics that are averaged or added and their correlations ({metrics})",
        "log_t": "t interval on the log scale ({metrics})",
        "woodruff": "Woodruff interval ({metrics})",
        "t": "t interval ({metrics})",
    },
    models="{count} trained models",
    one_model="trained model",
    comparison="The trained model was compared with {baselines} on frozen features in {metric}, on the same images and folds, by a "
    "two-sided permutation test that swaps the predictions of the two models {unit} by {unit}{holm}.",
    one_baseline="one baseline",
    several_baselines="{count} baselines",
    holm=", with Holm's correction for {count} comparisons",
    software="Software: {toolbox} with {versions}.",
    commit=" (commit {commit})",
    seeds={"runtime": "the seed of the training was {seed}", "splits": "the seed of the folds was {seed}"},
    device="the training ran on {device} ({precision})",
    processes=" in {count} processes",
)

CHINESE = Words(
    language="zh",
    heading="方法",
    space="",
    comma="、",
    semicolon="；",
    stop="。",
    range_text="{least} 至 {most}",
    data="数据集包含 {images} 张图像{classes}{unlabelled}。",
    grouped_data="数据集包含 {groups} 个分组（应放在一起的图像，如同一患者的图像）的 {images} 张图像{classes}{unlabelled}。",
    classes="，共 {count} 个类别（{listed}）",
    of_class="{name}：n = {count}",
    of_class_in_groups="{name}：n = {count}，{groups} 个分组",
    colon="：",
    unlabelled="；其中 {count} 张没有类别标签",
    splits={
        "StratifiedGroupKFold": "采用{stratified} {folds} 折交叉验证{whole_groups}。",
        "StratifiedKFold": "采用{stratified} {folds} 折交叉验证。",
        "KFold": "采用 {folds} 折交叉验证，各折随机抽取。",
        "Holdout": "采用{stratified}留出法划分一次{whole_groups}。",
        "AsGiven": "采用数据自带的划分{whole_groups}。",
        "FromFile": "采用预先给定的 {folds} 折划分{whole_groups}。",
        "FromFileOnce": "采用预先给定的一次划分{whole_groups}。",
    },
    other_splits="数据划分为 {folds} 折{whole_groups}。",
    other_split="数据只划分一次{whole_groups}。",
    whole_groups="，同一分组的图像始终在同一子集中",
    stratified="按类别分层的",
    per_fold=("每折", "其中"),
    parts="{per}用 {train} 张图像训练、{val} 张验证、{test} 张测试。",
    parts_without_val="{per}用 {train} 张图像训练、{test} 张测试，没有验证集。",
    last_epoch="测试所用的是最后一轮的模型。",
    best_epoch="测试所用的是验证集上{metric}最优的一轮的模型。",
    best_epoch_on_test="所用轮次按测试集上的{metric}选取，因此结果偏乐观。",
    wise_ft="其权重与训练前的权重加权平均，比例取验证集上{metric}最优者（WiSE-FT，Wortsman et al. 2022）。",
    joined_groups="一个病例由一个分组的全部图像组成，共 {images} 张图像；同一网络分别编码各图像，其特征取平均。",
    joined_values="一个病例由“{by}”相同的图像组成，共 {images} 张图像；同一网络分别编码各图像，其特征取平均。",
    tta="评分图像的特征取该图像及其副本（{kinds}）的平均（测试时增强）。",
    test_views={"flip": "左右镜像", "rotations": "旋转 ±5 度", "zooms": "缩放 ±5 %", "shifts": "向四个方向平移 2.5 %"},
    inner_folds="训练轮数由训练集内部的 {number} 折交叉验证选定，取各折{metric}的均值最优的一轮；"
    "随后用整个训练集训练同样的轮数，得到测试所用的模型。",
    out_of_fold="{tested} 张图像各由一个{seen}的模型预测一次（折外预测），各项指标在全部折外预测上合并计算。",
    joined={
        "mean": "每个分组只计一次，取其各图像概率的平均值。",
        "max": "每个分组只计一次，取其各图像在每个类别上的最大概率，再归一化为总和 1。",
    },
    tested="各项指标在 {tested} 张测试图像上计算，每张图像由{seen}的模型预测一次。",
    never_seen="从未见过该{unit}",
    not_trained_on="训练时未用过该{unit}",
    units=("分组", "图像", "分组", "图像"),
    intervals="{level}% 置信区间以{unit}为单位计算，需要标准误的方法采用逐一剔除{unit}的刀切法（jackknife）：{listed}。"
    "区间以{models}为条件，描述的是同类新{unit}带来的不确定性，而非重新训练带来的不确定性"
    "（Bayle et al. 2020, Cross-validation confidence intervals for test error）。",
    methods={
        "wilson": "Wilson 得分区间（{metrics}）",
        "effective_wilson": "基于有效样本量的 Wilson 得分区间（{metrics}）",
        "logit_t": "logit 尺度上的 t 区间（{metrics}）",
        "mover": "由所平均或相加的各项指标的区间及其相关性合成的 MOVER 区间（{metrics}）",
        "log_t": "对数尺度上的 t 区间（{metrics}）",
        "woodruff": "Woodruff 区间（{metrics}）",
        "t": "t 区间（{metrics}）",
    },
    models="已训练好的 {count} 个模型",
    one_model="已训练好的模型",
    comparison="在相同的图像和划分上，以{metric}为准，将训练所得的模型与冻结特征上的 {baselines}比较，"
    "采用双侧置换检验，逐个{unit}交换两个模型的预测{holm}。",
    one_baseline="1 个基线",
    several_baselines="{count} 个基线",
    holm="，并对 {count} 次比较作 Holm 校正",
    software="软件：{toolbox}，{versions}。",
    commit="（提交 {commit}）",
    seeds={"runtime": "训练的随机种子为 {seed}", "splits": "划分的随机种子为 {seed}"},
    device="训练设备为 {device}（{precision}）",
    processes="，共 {count} 个进程",
)

LANGUAGES = {"en": ENGLISH, "zh": CHINESE}
