"""Grid of the sample ocean: 96 x 48 cells of 3.75 x 3.125 degrees, 12 levels."""

import numpy as np

NX, DX = 96, 3.75  # cells, degrees
NY, DY = 48, 3.125
LON = (np.arange(NX) + 0.5) * DX  # degrees east, cell centres
LAT_EDGES = np.arange(NY + 1) * DY - NY * DY / 2  # degrees north
LAT = 0.5 * (LAT_EDGES[1:] + LAT_EDGES[:-1])  # degrees north, cell centres

# Veros derives the distance between cell centres by the recursion dzw[k] = 2 dzt[k] - dzw[k-1] from the bottom up.
# Thicknesses chosen freely make it oscillate, even below zero; so the distances are chosen, and the thicknesses follow.
CENTRE_DISTANCE = np.array([25, 35, 50, 80, 130, 200, 290, 380, 470, 560, 640, 700.0])  # m, surface first
DZ = np.append(0.5 * (CENTRE_DISTANCE[:-1] + CENTRE_DISTANCE[1:]), CENTRE_DISTANCE[-1])  # m, thicknesses
NZ = len(DZ)
Z_EDGES = np.concatenate([[0], np.cumsum(DZ)])  # m, positive down
Z = CENTRE_DISTANCE[0] / 2 + np.concatenate([[0], np.cumsum(CENTRE_DISTANCE[1:])])  # m, cell centres, positive down
