"""What to call nuScenes' categories in a sentence."""

from __future__ import annotations

NAMES = {
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "child",
    "human.pedestrian.construction_worker": "construction worker",
    "human.pedestrian.personal_mobility": "person on a small vehicle",
    "human.pedestrian.police_officer": "police officer",
    "human.pedestrian.stroller": "stroller",
    "human.pedestrian.wheelchair": "wheelchair",
    "movable_object.barrier": "barrier",
    "movable_object.debris": "debris",
    "movable_object.pushable_pullable": "pushable object",
    "movable_object.trafficcone": "traffic cone",
    "static_object.bicycle_rack": "bicycle rack",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "articulated bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction vehicle",
    "vehicle.emergency.ambulance": "ambulance",
    "vehicle.emergency.police": "police car",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
    # the detection challenge's names, where a table was made from its results
    "construction_vehicle": "construction vehicle",
    "traffic_cone": "traffic cone",
}


def label_of(category: str) -> str:
    """Return the words for a category; a name that is not nuScenes' own stays as it is, `unknown...` is an object."""
    return "object" if category.startswith("unknown") else NAMES.get(category, category)
