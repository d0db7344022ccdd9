import torch

from bevstack.perception.heads.query_encoding import PositionEmbedding, cell_centres


def test_cell_centres_are_in_the_order_of_a_flattened_grid() -> None:
    assert cell_centres((2, 3)).tolist() == [[0.5, 0.5], [1.5, 0.5], [2.5, 0.5], [0.5, 1.5], [1.5, 1.5], [2.5, 1.5]]
    levels = cell_centres((2, 1, 2))  # (z, y, x)
    assert levels.tolist() == [[0.5, 0.5, 0.5], [1.5, 0.5, 0.5], [0.5, 0.5, 1.5], [1.5, 0.5, 1.5]]


def test_a_place_has_the_same_vector_in_every_batch_and_mode() -> None:
    embedding, cells = PositionEmbedding(channels=8), 32 * torch.rand(3, 7, 2)
    together = embedding.train()(cells, (32, 32))
    assert together.shape == (3, 7, 8)
    torch.testing.assert_close(embedding.eval()(cells[1, 2], (32, 32)), together[1, 2])


def test_neighbouring_cells_have_clearly_different_vectors() -> None:
    vectors = PositionEmbedding(channels=32)(cell_centres((16, 16)), (16, 16))
    distance = torch.cdist(vectors, vectors) + torch.eye(256) * 1e3
    assert distance.min() > 0.1 * vectors.std() * 32**0.5


def test_a_grid_twice_as_fine_gives_the_same_place_the_same_vector() -> None:
    embedding = PositionEmbedding(channels=8, dimensions=3)
    cells = torch.rand(5, 3) * torch.tensor([8.0, 6.0, 4.0])
    torch.testing.assert_close(embedding(cells, (8, 6, 4)), embedding(2 * cells, (16, 12, 8)))
