mod conversions;
mod devices;
mod limits;
mod live;
mod paths;
