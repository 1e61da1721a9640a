"""How large a Qwen2.5-VL is, by its configuration alone: widths, and the numbers of weights that follow from them."""

from dataclasses import dataclass

from transformers import Qwen2_5_VLConfig

PATCH_NUMBERS = 3 * 2 * 14 * 14  # colours, frames, pixels


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths and numbers of layers; `kv` is the width of all key heads together, a tied head is the embedding."""

    vocabulary: int
    hidden: int
    mlp: int
    layers: int
    heads: int
    kv: int
    vision_hidden: int
    vision_mlp: int
    vision_layers: int
    vision_heads: int
    is_tied: bool

    @classmethod
    def of(cls, config: Qwen2_5_VLConfig) -> "Sizes":
        text, vision = config.text_config, config.vision_config
        return cls(
            vocabulary=text.vocab_size,
            hidden=text.hidden_size,
            mlp=text.intermediate_size,
            layers=text.num_hidden_layers,
            heads=text.num_attention_heads,
            kv=text.hidden_size // text.num_attention_heads * text.num_key_value_heads,
            vision_hidden=vision.hidden_size,
            vision_mlp=vision.intermediate_size,
            vision_layers=vision.depth,
            vision_heads=vision.num_heads,
            is_tied=config.tie_word_embeddings,
        )

    @property
    def n_embedding(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def n_decoder(self) -> int:
        attention = 2 * self.hidden**2 + self.hidden + 2 * self.kv * (self.hidden + 1)
        return self.layers * (attention + 3 * self.hidden * self.mlp + 2 * self.hidden) + self.hidden

    @property
    def n_vision(self) -> int:
        width, mlp, merged = self.vision_hidden, self.vision_mlp, 4 * self.vision_hidden
        block = 4 * width**2 + 4 * width + 3 * width * mlp + 2 * mlp + width + 2 * width
        merger = width + merged * (merged + 1) + self.hidden * (merged + 1)
        return PATCH_NUMBERS * width + self.vision_layers * block + merger

    @property
    def n_weights(self) -> int:
        return self.n_decoder + self.n_vision + self.n_embedding * (1 if self.is_tied else 2)

    def linear(self, target: str) -> tuple[int, int, int]:
        """(layers, inputs, outputs) of the linear layers called `target`, as in `trainer.lora`."""
        h, m, v, n = self.hidden, self.mlp, self.vision_hidden, self.vision_mlp
        decoder = {"q_proj": (h, h), "k_proj": (h, self.kv), "v_proj": (h, self.kv), "o_proj": (h, h)}
        decoder |= {"gate_proj": (h, m), "up_proj": (h, m), "down_proj": (m, h)}
        tower = {"qkv": (v, 3 * v), "proj": (v, v), "gate_proj": (v, n), "up_proj": (v, n), "down_proj": (n, v)}
        where = {name: (self.layers, *one) for name, one in decoder.items()}
        return (where | {f"visual.{name}": (self.vision_layers, *one) for name, one in tower.items()})[target]
