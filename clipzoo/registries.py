"""All registries in one place, and the constructor arguments that each of them builds."""

from clipzoo.config.registry import Registry

SLOTS: dict[str, Registry] = {}

MODELS = Registry("model", "clipzoo.models", slots=SLOTS, runtime=("num_classes",))
BACKBONES = Registry("image encoder", "clipzoo.models.backbones", slots=SLOTS, speller="clipzoo.models.names:image_encoder")
TEXT_ENCODERS = Registry("text encoder", "clipzoo.models.text_encoders", slots=SLOTS, speller="clipzoo.models.names:text_encoder")
HEADS = Registry("head", "clipzoo.models.heads", slots=SLOTS, runtime=("in_features", "out_features"))
LOSSES = Registry("loss", "clipzoo.models.losses", slots=SLOTS)
DATASETS = Registry("dataset", "clipzoo.datasets", slots=SLOTS)
AUGMENTATIONS = Registry("augmentation", "clipzoo.datasets.augmentations", slots=SLOTS, speller="clipzoo.datasets.augmentations:spelled")
SAMPLERS = Registry("sampler", "clipzoo.datasets.batches.samplers", slots=SLOTS)
SPLITTERS = Registry("splitter", "clipzoo.datasets.splitters", slots=SLOTS)
METRICS = Registry("metric", "clipzoo.metrics", slots=SLOTS)
OPTIMIZERS = Registry("optimizer", "clipzoo.optim", slots=SLOTS, speller="clipzoo.optim.timm_optimizer:spelled")
SCHEDULES = Registry("schedule", "clipzoo.optim.schedules", slots=SLOTS)
HOOKS = Registry("hook", "clipzoo.hooks", slots=SLOTS)
PROBES = Registry("probe", "clipzoo.probes", slots=SLOTS)

SLOTS.update(
    model=MODELS,
    image_encoder=BACKBONES,
    text_encoder=TEXT_ENCODERS,
    image_projection=HEADS,
    text_projection=HEADS,
    head=HEADS,
    loss=LOSSES,
    dataset=DATASETS,
    augmentation=AUGMENTATIONS,
    sampler=SAMPLERS,
    splits=SPLITTERS,
    metrics=METRICS,
    optimizer=OPTIMIZERS,
    schedule=SCHEDULES,
    hooks=HOOKS,
)

TABLES: dict[str, Registry] = {
    "MODELS": MODELS,
    "BACKBONES": BACKBONES,
    "TEXT_ENCODERS": TEXT_ENCODERS,
    "HEADS": HEADS,
    "LOSSES": LOSSES,
    "DATASETS": DATASETS,
    "AUGMENTATIONS": AUGMENTATIONS,
    "SAMPLERS": SAMPLERS,
    "SPLITTERS": SPLITTERS,
    "METRICS": METRICS,
    "OPTIMIZERS": OPTIMIZERS,
    "SCHEDULES": SCHEDULES,
    "HOOKS": HOOKS,
    "PROBES": PROBES,
}
