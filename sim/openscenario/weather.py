"""`EnvironmentAction` as light and weather of our scenarios."""

from bevstack.sim.openscenario.losses import Losses
from bevstack.sim.openscenario.xml_nodes import Node
from bevstack.sim.scenario.schema import WeatherKind, WeatherSpec

_NIGHT_LUX, _DUSK_LUX = 10.0, 1000.0
_FOG_M = 1000.0
_OVERCAST = ("overcast", "sixOktas", "sevenOktas", "eightOktas", "nineOktas")


def weather_of(tree: Node, losses: Losses) -> WeatherSpec:
    """Light and weather that a scenario begins with; a clear day where it says nothing."""
    init = tree.need("Storyboard", "Init", "Actions")
    for action in init.all("GlobalAction"):
        environment = action.child("EnvironmentAction", "Environment")
        if environment is not None:
            return WeatherSpec(kind=_kind(environment))
        if action.only().tag != "EntityAction":
            losses.note(action.only(), "this action has no counterpart at the begin")
    return WeatherSpec()


def _kind(environment: Node) -> WeatherKind:
    weather = environment.child("Weather")
    if weather is None:
        return "day"
    fog, rain, sun = weather.child("Fog"), weather.child("Precipitation"), weather.child("Sun")
    if fog is not None and fog.number("visualRange") < _FOG_M:
        return "fog"
    falls = rain.number("precipitationIntensity", rain.number("intensity", 0.0)) if rain is not None else 0.0
    if rain is not None and falls > 0 and rain.text("precipitationType", "rain") != "dry":
        return "rain"
    if sun is not None:
        lux = sun.number("illuminance", sun.number("intensity", 1e5))
        if sun.number("elevation", 1.0) < 0 or lux < _NIGHT_LUX:
            return "night"
        if lux < _DUSK_LUX:
            return "dusk"
    clouds = weather.text("fractionalCloudCover", weather.text("cloudState", "free"))
    return "overcast" if clouds in _OVERCAST else "day"
