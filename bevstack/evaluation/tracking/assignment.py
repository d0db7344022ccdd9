"""The cheapest assignment of objects to boxes, with the choice among equally cheap ones that SciPy makes.

Shortest augmenting paths for rectangular matrices (Crouse, *On implementing 2D rectangular assignment algorithms*, IEEE
Transactions on Aerospace and Electronic Systems 52, 2016), in the order of operations of
`scipy.optimize.linear_sum_assignment`, so that results are equal on matrices with ties too. Compiled code can call it.
"""

import numba
import numpy as np

NONE = -1


@numba.njit(cache=True, nogil=True)
def assign(cost):  # type: ignore[no-untyped-def]
    """The column of each row, -1 for none, and the dual values of rows and columns.

    Args:
        cost: (R, C) finite numbers, float64.

    Returns:
        (R) int64, (R) and (C) float64. No entry is below the sum of its duals; assigned ones are equal to it.
    """
    if cost.shape[0] <= cost.shape[1]:
        return _assign_wide(cost)
    row_of_column, column_dual, row_dual = _assign_wide(np.ascontiguousarray(cost.T))
    column_of_row = np.full(cost.shape[0], NONE)
    for column in range(len(row_of_column)):
        column_of_row[row_of_column[column]] = column
    return column_of_row, row_dual, column_dual


@numba.njit(cache=True, nogil=True)
def _assign_wide(cost):  # type: ignore[no-untyped-def]
    """As `assign`, for matrices with at least as many columns as rows."""
    rows, columns = cost.shape
    row_dual, column_dual = np.zeros(rows), np.zeros(columns)
    column_of, row_of = np.full(rows, NONE), np.full(columns, NONE)
    previous, distance = np.full(columns, NONE), np.empty(columns)
    is_row_seen, is_column_seen = np.empty(rows, np.bool_), np.empty(columns, np.bool_)
    open_columns = np.empty(columns, np.int64)
    for start in range(rows):
        is_row_seen[:], is_column_seen[:], distance[:] = False, False, np.inf
        sink, length = _shortest_path(
            cost, start, row_dual, column_dual, row_of, previous, distance, is_row_seen, is_column_seen, open_columns
        )
        row_dual[start] += length
        for row in range(rows):
            if is_row_seen[row] and row != start:
                row_dual[row] += length - distance[column_of[row]]
        for column in range(columns):
            if is_column_seen[column]:
                column_dual[column] -= length - distance[column]
        column, row = sink, NONE
        while row != start:
            row = previous[column]
            row_of[column] = row
            column_of[row], column = column, column_of[row]
    return column_of, row_dual, column_dual


@numba.njit(cache=True, nogil=True)
def _shortest_path(  # type: ignore[no-untyped-def]
    cost, row, row_dual, column_dual, row_of, previous, distance, is_row_seen, is_column_seen, open_columns
):
    """The free column at the end of the shortest path from a row, and its length. The path is left in `previous`."""
    num_open = len(open_columns)
    for place in range(num_open):
        open_columns[place] = num_open - place - 1  # backwards: a matrix of equal costs gives the diagonal
    length = 0.0
    while True:
        is_row_seen[row] = True
        nearest, lowest = NONE, np.inf
        for place in range(num_open):
            column = open_columns[place]
            through_row = length + cost[row, column] - row_dual[row] - column_dual[column]
            if through_row < distance[column]:
                previous[column] = row
                distance[column] = through_row
            # Among equally near columns a free one ends the path.
            if distance[column] < lowest or (distance[column] == lowest and row_of[column] == NONE):
                lowest, nearest = distance[column], place
        length = lowest
        column = open_columns[nearest]
        is_column_seen[column] = True
        if row_of[column] == NONE:
            return column, length
        row = row_of[column]
        num_open -= 1
        open_columns[nearest] = open_columns[num_open]
