"""What parameters are taken for."""

import pytest
from torch import nn

from opttune.build.traits import parameter_traits
from opttune.errors import ModelError
from tests.support.optimizer_tasks import LstmModel, TransformerModel


def names(module: nn.Module, trait: str) -> list[str]:
    return [each.name for each in parameter_traits(module) if getattr(each, trait)]


def test_embeddings_are_found_by_kind_and_by_name() -> None:
    assert names(TransformerModel(), "is_embedding") == ["pos_embed", "token_embedding.weight"]
    assert names(nn.EmbeddingBag(3, 2), "is_embedding") == ["weight"]


def test_the_output_is_the_last_linear_layer() -> None:
    assert names(LstmModel(), "is_output") == ["head.weight", "head.bias"]
    assert names(nn.LSTM(2, 2), "is_output") == []


def test_tied_output_weights_are_embeddings() -> None:
    model = LstmModel()
    model.head = nn.Linear(12, 11)
    model.head.weight = model.embedding.weight
    (tied,) = [trait for trait in parameter_traits(model) if trait.name == "embedding.weight"]
    assert tied.is_embedding
    assert tied.is_output
    assert not tied.is_hidden_matrix


def test_a_flattened_weight_is_still_a_weight() -> None:
    layer = nn.Linear(2, 2)
    layer.weight = nn.Parameter(layer.weight.detach().flatten())
    assert names(layer, "is_norm_or_bias") == ["bias"]


def test_frozen_parameters_have_no_trait() -> None:
    layer = nn.Linear(2, 2)
    layer.weight.requires_grad_(False)
    assert names(layer, "is_norm_or_bias") == ["bias"]
    layer.bias.requires_grad_(False)
    with pytest.raises(ModelError, match="no trainable parameter"):
        parameter_traits(layer)
