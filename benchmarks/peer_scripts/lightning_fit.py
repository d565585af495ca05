"""A checkpoint that Lightning's trainer saves after a step, with what its network answers."""

import sys
from pathlib import Path

import lightning
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


class Roads(lightning.LightningModule):
    def __init__(self, rate):
        super().__init__()
        self.save_hyperparameters()
        self.net = smp.Unet("resnet18", encoder_weights=None, classes=3)
        self.register_buffer("class_weights", torch.ones(3))

    def training_step(self, batch, index):
        pixels, classes = batch
        return functional.cross_entropy(self.net(pixels), classes, self.class_weights)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.net.parameters(), self.hparams.rate)


folder = Path(sys.argv[1])
torch.manual_seed(0)
pixels = torch.randn(4, 3, 64, 64)
data = DataLoader(TensorDataset(pixels, torch.randint(3, (4, 64, 64))), batch_size=2)
module = Roads(rate=1e-3)
trainer = lightning.Trainer(
    max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
)  # fmt: skip
trainer.fit(module, data)
trainer.save_checkpoint(folder / "lightning.ckpt")
module.eval()
with torch.no_grad():
    answer = module.net(pixels[:1]).softmax(1)[:, 1:]
torch.save({"pixels": pixels[:1], "answer": answer}, folder / "lightning.answer.pth")
