"""Read ROS messages without ROS, from a node or from a bag, by the names of their fields."""
