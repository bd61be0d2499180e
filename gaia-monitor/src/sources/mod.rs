//! Where facts come from. The types of aya, bollard and netlink stop here: what leaves is an `Observation`.
