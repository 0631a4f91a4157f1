"""What is seen on radiographs of hip prostheses, several labels per image. Drawn ones: `python tools/make_sample_data.py hip`."""

data = dict(
    dataset=dict(
        type="TableDataset",
        path="data/hip/findings.csv",
        findings=["骨水泥", "金属臼杯", "股骨柄", "环扎钢丝"],
        template="X光片上可见{class_name}",
    ),
    batch_size=32,
    augmentation="standard",
    num_workers=4,
)
