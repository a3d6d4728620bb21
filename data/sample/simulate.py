"""Ten years of a global ocean at 3.75° x 3.125°, 12 levels, by the Veros primitive-equation model.

Needs: pip install veros jax jaxlib xarray scipy; Debian package ferret-datasets (ETOPO relief, Levitus hydrography,
COADS sea surface temperature, Esbensen-Kushnir heat budget, FNOC monthly winds 1982-1992).
Usage: python simulate.py DAYS OUTPUT_PREFIX     writes one .npz of 5-day means per model year
Cost: about 10 minutes per model year on 2 CPU cores (JAX backend, float32).
"""

import sys
import time
from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import distance_transform_edt
from veros import runtime_settings

runtime_settings.backend = "jax"
runtime_settings.float_type = "float32"
runtime_settings.loglevel = "error"

from grid import DX, DY, DZ, LAT, LAT_EDGES, LON, NX, NY, NZ, Z_EDGES, Z  # noqa: E402
from veros import KernelOutput, VerosSetup, veros_kernel, veros_routine  # noqa: E402
from veros.core import tke as vertical_mixing  # noqa: E402
from veros.core.operators import at, update  # noqa: E402
from veros.core.operators import numpy as npx  # noqa: E402
from veros.variables import Variable  # noqa: E402

FERRET = "/usr/share/ferret-vis/data"  # where ferret-datasets puts its files
DAY = 86400.0  # s
TIME_STEP = 3600.0  # s, the same for momentum and tracers: no distorted physics
STEPS_PER_GUST = round(DAY / 4 / TIME_STEP)
STEPS_PER_SAMPLE = round(DAY / 2 / TIME_STEP)  # of a mean
STEPS_PER_MEAN = round(5 * DAY / TIME_STEP)
MEANS_PER_FILE = 73  # a year
RHO, CP = 1024.0, 3991.87  # kg m-3, J kg-1 K-1
AIR_DRAG = 1.3e-3 * 1.22  # drag coefficient times air density, kg m-3
FIELDS = ("temp", "salt", "u", "v", "psi", "surface_taux", "surface_tauy", "hfds")
STATE = ("temp", "salt", "u", "v", "psi")  # those of FIELDS of which Veros keeps several time levels
INNER = slice(2, -2)  # the cells within Veros' halo


def fill_nearest(field: np.ndarray) -> np.ndarray:
    """Fill NaN by the nearest finite value, level by level."""
    if field.ndim > 2:
        return np.stack([fill_nearest(level) for level in field])
    if not np.isnan(field).any() or np.isnan(field).all():
        return field
    nearest = distance_transform_edt(np.isnan(field), return_distances=False, return_indices=True)
    return field[tuple(nearest)]


def read(name: str, variable: str) -> tuple[xr.DataArray, str, str]:
    """A variable of a Ferret file, longitudes rising from 0 to 360, and the names of its latitude and longitude."""
    data = xr.open_dataset(f"{FERRET}/{name}.cdf", engine="scipy", decode_times=False)[variable]
    lat, lon = map(str, data.dims[-2:])
    return data.assign_coords({lon: data[lon] % 360}).sortby(lon), lat, lon


def to_grid(name: str, variable: str) -> np.ndarray:
    """A variable of a Ferret file, filled over land, bilinearly at the model's cell centres [..., lat, lon]."""
    data, lat, lon = read(name, variable)
    data = data.copy(data=fill_nearest(data.values))
    west = data.isel({lon: -1}).assign_coords({lon: float(data[lon][-1]) - 360})
    east = data.isel({lon: 0}).assign_coords({lon: float(data[lon][0]) + 360})
    wrapped = xr.concat([west, data, east], dim=lon)
    return wrapped.interp({lon: LON, lat: LAT}, kwargs={"fill_value": "extrapolate"}).values


def bathymetry() -> tuple[np.ndarray, np.ndarray]:
    """Mean depth of the wet part of each cell (m, positive) and its wet fraction, from ETOPO at 1/3 degree."""
    data, lat, lon = read("etopo20", "ROSE")
    x, y, height = data[lon].values, data[lat].values, data.values
    depth, wet = np.zeros((NY, NX)), np.zeros((NY, NX))
    for j in range(NY):
        rows = (y >= LAT_EDGES[j]) & (y < LAT_EDGES[j + 1])
        for i in range(NX):
            cell = height[np.ix_(rows, (x >= LON[i] - DX / 2) & (x < LON[i] + DX / 2))]
            below = cell < 0
            wet[j, i] = below.mean()
            depth[j, i] = -cell[below].mean() if below.any() else 0.0
    return depth, wet


def wet_levels() -> np.ndarray:
    """Number of wet levels of each cell [lat, lon], 0 on land, at least 3 elsewhere."""
    depth, fraction = bathymetry()
    wet = (fraction > 0.5) & (depth > 50)
    wet[0] = wet[-1] = False
    shifts = ((1, 1), (-1, 1), (1, 0), (-1, 0))
    for _ in range(3):  # close cells with fewer than two wet neighbours
        neighbours = sum(np.roll(wet, shift, axis).astype(int) for shift, axis in shifts)
        wet &= neighbours >= 2
    return np.where(wet, np.clip(np.searchsorted(Z_EDGES, depth), 3, NZ), 0)


def hydrography(variable: str) -> np.ndarray:
    """Levitus' annual mean of TEMP (degC) or SALT (1e-3) at the model's cells [level, lat, lon], surface first."""
    levels = to_grid("levitus_climatology", variable)
    source_z = xr.open_dataset(f"{FERRET}/levitus_climatology.cdf", engine="scipy", decode_times=False).ZAXLEVITR.values
    for k in range(1, len(source_z)):
        levels[k] = np.where(np.isnan(levels[k]), levels[k - 1], levels[k])
    columns = levels.reshape(len(source_z), -1)
    return np.stack([np.interp(Z, source_z, c) for c in columns.T], axis=-1).reshape(NZ, NY, NX)


FORCING = {
    "sst": to_grid("coads_climatology", "SST"),  # degC, 12 months
    "heat": np.clip(to_grid("esku_heat_budget", "FDH"), -250, 150),  # W m-2 into the ocean, 12 months
    "u": to_grid("monthly_navy_winds", "UWND"),  # m s-1, 132 months from January 1982
    "v": to_grid("monthly_navy_winds", "VWND"),
}


def ijk(field: np.ndarray) -> Any:
    """[level or time, lat, lon] -> Veros' order [lon, lat, level or time]."""
    return npx.array(np.transpose(field, (2, 1, 0)))


class SampleOcean(VerosSetup):
    """The model. Veros' own attributes keep Veros' names and units (SI, degC)."""

    @veros_routine
    def set_parameter(self, state):
        """Numerics, physics, and the variables that Veros does not have."""
        s = state.settings
        s.identifier = "sample_ocean"
        s.nx, s.ny, s.nz = NX, NY, NZ
        s.dt_mom = s.dt_tracer = TIME_STEP
        s.runlen = 0.0
        s.x_origin, s.y_origin = LON[0], LAT[0]
        s.coord_degree = s.enable_cyclic_x = True
        s.enable_streamfunction = False  # implicit linear free surface: `psi` is surface pressure / density
        s.eq_of_state_type = 5
        s.enable_conserve_energy = False
        s.enable_superbee_advection = True
        s.enable_hor_friction, s.A_h = True, 1.0e6  # m2 s-1, for the western boundary layer
        s.enable_hor_friction_cos_scaling, s.hor_friction_cosPower = True, 1
        s.enable_hor_diffusion, s.K_h = True, 800.0  # m2 s-1
        s.enable_implicit_vert_friction = True
        s.enable_bottom_friction, s.r_bot = True, 1e-5  # s-1
        state.dimensions["month"] = 12
        state.dimensions["wind_month"] = FORCING["u"].shape[0]
        months = {"sst_clim": "month", "heat_clim": "month", "wind_u": "wind_month", "wind_v": "wind_month"}
        for name, time_dim in months.items():
            state.var_meta[name] = Variable(name, ("xt", "yt", time_dim), "", "", time_dependent=False)
        state.var_meta["sss_clim"] = Variable("sss_clim", ("xt", "yt"), "", "", time_dependent=False)
        for name in ("gust_u", "gust_v", "hfds"):
            state.var_meta[name] = Variable(name, ("xt", "yt"), "", "")

    @veros_routine
    def set_grid(self, state):
        """Spacings, levels from the bottom up."""
        vs = state.variables
        vs.dzt = npx.array(DZ[::-1])
        vs.dxt = DX * npx.ones_like(vs.dxt)
        vs.dyt = DY * npx.ones_like(vs.dyt)

    @veros_routine
    def set_coriolis(self, state):
        """Of the sphere."""
        vs, s = state.variables, state.settings
        vs.coriolis_t = update(vs.coriolis_t, at[...], 2 * s.omega * npx.sin(vs.yt[npx.newaxis, :] / 180 * s.pi))

    @veros_routine
    def set_topography(self, state):
        """Index of the lowest wet level, counted from 1 at the bottom; 0 on land."""
        vs = state.variables
        levels = wet_levels()
        vs.kbot = update(vs.kbot, at[INNER, INNER], npx.array(np.where(levels > 0, NZ - levels + 1, 0).T))

    @veros_routine
    def set_initial_conditions(self, state):
        """At rest, with Levitus' temperature and salinity; and the months of the forcing."""
        vs = state.variables
        temperature, salinity = hydrography("TEMP"), hydrography("SALT")
        wet = vs.maskT[INNER, INNER]
        for step in range(2):
            vs.temp = update(vs.temp, at[INNER, INNER, :, step], ijk(temperature[::-1]) * wet)
            vs.salt = update(vs.salt, at[INNER, INNER, :, step], ijk(salinity[::-1]) * wet)
        vs.temp = npx.clip(vs.temp, -1.9, 40)
        vs.salt = npx.where(vs.maskT[..., None] > 0, npx.clip(vs.salt, 28, 40), 0.0)
        vs.sst_clim = update(vs.sst_clim, at[INNER, INNER], ijk(FORCING["sst"]))
        vs.heat_clim = update(vs.heat_clim, at[INNER, INNER], ijk(FORCING["heat"]))
        vs.wind_u = update(vs.wind_u, at[INNER, INNER], ijk(FORCING["u"]))
        vs.wind_v = update(vs.wind_v, at[INNER, INNER], ijk(FORCING["v"]))
        vs.sss_clim = update(vs.sss_clim, at[INNER, INNER], npx.array(salinity[0].T))
        self.steps = 0
        self.weather = Weather(np.array(vs.xt), np.array(vs.yt))

    @veros_routine
    def set_forcing(self, state):
        """Every step; new gusts every 6 hours."""
        vs = state.variables
        if self.steps % STEPS_PER_GUST == 0:
            gust_u, gust_v = self.weather.draw()
            vs.gust_u = update(vs.gust_u, at[...], npx.array(gust_u))
            vs.gust_v = update(vs.gust_v, at[...], npx.array(gust_v))
        self.steps += 1
        vs.update(surface_fluxes(state))

    @veros_routine
    def set_diagnostics(self, state):
        """None of Veros'."""

    @veros_routine
    def after_timestep(self, state):
        """Nothing."""


class Weather:
    """Synoptic wind (m s-1): smooth random patterns with 4 days' memory, strongest along the storm tracks."""

    def __init__(self, lon: np.ndarray, lat: np.ndarray, seed: int = 7) -> None:
        self.rng = np.random.default_rng(seed)
        self.amplitudes = np.zeros((2, 10, 6))  # [component, zonal wave, meridional wave]
        x, y = np.deg2rad(lon)[:, None, None, None], np.deg2rad(lat)[None, :, None, None]
        k, m = np.arange(1, 11)[None, None, :, None], np.arange(1, 7)[None, None, None, :]
        phase = self.rng.uniform(0, 2 * np.pi, (2, 10, 6))
        self.patterns = (
            np.cos(k * x + phase[0]) * np.cos(2 * m * y + phase[1]),
            np.sin(k * x + phase[1]) * np.cos(2 * m * y + phase[0]),
        )
        self.strength = (1.2 + 3.0 * np.exp(-(((np.abs(lat) - 45) / 18) ** 2)))[None, :]

    def draw(self) -> list[np.ndarray]:
        """The next 6 hours' wind, eastward and northward, [lon, lat]."""
        memory = np.exp(-0.25 / 4.0)
        noise = self.rng.standard_normal(self.amplitudes.shape)
        self.amplitudes = memory * self.amplitudes + np.sqrt(1 - memory**2) * noise
        pairs = zip(self.patterns, self.amplitudes, strict=True)
        return [(p * a).sum((-1, -2)) / np.sqrt(15.0) * self.strength for p, a in pairs]


def between(months: Any, first: Any, second: Any, weight: Any) -> Any:
    """Linear in time between two months of `months` [lon, lat, month]; `weight` is that of the second."""
    return (1 - weight) * npx.take(months, first, axis=2) + weight * npx.take(months, second, axis=2)


@veros_kernel
def surface_fluxes(state):
    """Wind stress (N m-2), heat flux (W m-2) and the salinity flux that restores to Levitus in 60 days."""
    vs = state.variables
    month = vs.time / DAY / 365.0 * 12 - 0.5
    season = month % 12
    s0 = npx.floor(season).astype(int)
    s1 = (s0 + 1) % 12
    sst_clim = between(vs.sst_clim, s0, s1, season - s0)
    heat_clim = between(vs.heat_clim, s0, s1, season - s0)
    record = npx.clip(month, 0, vs.wind_u.shape[2] - 1.001)
    r0 = npx.floor(record).astype(int)
    u = between(vs.wind_u, r0, r0 + 1, record - r0) + vs.gust_u
    v = between(vs.wind_v, r0, r0 + 1, record - r0) + vs.gust_v
    speed = npx.sqrt(u * u + v * v + 4.0)  # m s-1, 2 of them from gusts within a cell
    wet = vs.maskT[:, :, -1]
    tau_x, tau_y = AIR_DRAG * speed * u * wet, AIR_DRAG * speed * v * wet
    taux = update(vs.surface_taux, at[:-1, :], 0.5 * (tau_x[:-1] + tau_x[1:]) * vs.maskU[:-1, :, -1])
    tauy = update(vs.surface_tauy, at[:, :-1], 0.5 * (tau_y[:, :-1] + tau_y[:, 1:]) * vs.maskV[:, :-1, -1])
    sst = vs.temp[:, :, -1, vs.tau]
    heat = heat_clim * (speed / 8.0) ** 0.5 + 25.0 * (sst_clim - sst)
    under_ice = (sst < -1.8) & (heat < 0)
    heat = npx.where(under_ice, 0.0, heat) * wet
    salt = (vs.sss_clim - vs.salt[:, :, -1, vs.tau]) * wet * vs.dzt[-1] / (60 * DAY)
    temp = heat / CP / RHO  # K m s-1
    return KernelOutput(surface_taux=taux, surface_tauy=tauy, forc_temp_surface=temp, forc_salt_surface=salt, hfds=heat)


@veros_kernel
def mixing(state):
    """Vertical viscosity and diffusivity (m2 s-1): background, stirring by the wind, and convection.

    Smooth in N2, unlike Veros's own switch to 1 m2 s-1 wherever N2 < 0.
    """
    vs = state.variables
    stress = npx.sqrt(vs.surface_taux**2 + vs.surface_tauy**2)
    wind = 1e-2 * npx.minimum(stress / 0.1, 3.0)[:, :, npx.newaxis] * npx.exp(vs.zw / 25.0)[npx.newaxis, npx.newaxis, :]
    convection = 0.1 * npx.tanh(npx.maximum(-vs.Nsqr[..., vs.tau], 0.0) / 1e-6)
    return KernelOutput(kappaH=5e-5 + wind + convection, kappaM=1e-3 + wind + 0 * convection)


@veros_routine
def set_mixing(state):
    """In place of Veros' own."""
    state.variables.update(mixing(state))


vertical_mixing.set_tke_diffusivities = set_mixing


def snapshot(vs: Any) -> dict[str, np.ndarray]:
    """The fields as they are now, float64, without Veros' halo."""
    now = {name: getattr(vs, name) for name in FIELDS}
    now |= {name: now[name][..., vs.tau] for name in STATE}
    return {name: np.asarray(values[INNER, INNER], dtype="f8") for name, values in now.items()}


def average(samples: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Mean of snapshots, float32."""
    return {name: (sum(s[name] for s in samples) / len(samples)).astype("f4") for name in FIELDS}


def report(mean: dict[str, np.ndarray], wet: np.ndarray, step: int, start: float) -> None:
    """Print the model day, the seconds since `start`, and the range of temperature."""
    temp = mean["temp"][wet > 0]
    progress = f"day {step * TIME_STEP / DAY:.0f} {time.time() - start:.0f} s"
    print(f"{progress}, T {temp.min():.1f} to {temp.max():.1f}", flush=True)


def main(days: float, prefix: str) -> None:
    """Run the model for `days` and write its 5-day means, averaged from snapshots every 12 hours."""
    model = SampleOcean()
    model.setup()
    vs = model.state.variables
    wet = np.asarray(vs.maskT[INNER, INNER])
    for _ in range(3):  # compiles
        model.step(model.state)
    samples, means, year, start = [], [], 0, time.time()
    steps = int(days * DAY / TIME_STEP)
    for step in range(1, steps + 1):
        model.step(model.state)
        if step % STEPS_PER_SAMPLE == 0:
            samples.append(snapshot(vs))
        if step % STEPS_PER_MEAN == 0:
            means.append(average(samples))
            samples = []
            report(means[-1], wet, step, start)
        if len(means) == MEANS_PER_FILE or step == steps:
            np.savez(f"{prefix}_{year}.npz", mask=wet, **{n: np.stack([m[n] for m in means]) for n in FIELDS})
            means, year = [], year + 1


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])
