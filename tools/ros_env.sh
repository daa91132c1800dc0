#!/usr/bin/env bash
# The environment that `make` builds: its Python, its ROS 2 and, once built, this package.
#   tools/ros_env.sh COMMAND...   run one command in it
#   source tools/ros_env.sh       put this shell in it
_vpog_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
_vpog_venv="${VPOG_VENV:-$_vpog_root/.venv}"

# Nothing of a ROS installation that happens to be sourced may leak in.
unset PYTHONPATH PYTHONHOME COLCON_PREFIX_PATH ROS_DISTRO RMW_IMPLEMENTATION
export VIRTUAL_ENV="$_vpog_venv" PATH="$_vpog_venv/bin:$PATH"
export AMENT_PREFIX_PATH="$_vpog_venv" CMAKE_PREFIX_PATH="$_vpog_venv"
export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST

# The ROS wheels would otherwise start every Python twice to set this.
LD_LIBRARY_PATH="$_vpog_venv/lib"
for _vpog_libs in "$_vpog_venv"/lib/python3*/site-packages/ros_*.libs; do
  LD_LIBRARY_PATH="$LD_LIBRARY_PATH:$_vpog_libs"
done
export LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE=1

if [ -f "$_vpog_root/install/local_setup.bash" ]; then
  source "$_vpog_root/install/local_setup.bash"
fi
unset _vpog_root _vpog_venv _vpog_libs
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  exec "$@"
fi
