#include "proxy/daemon/relayd.h"

int main(int argc, char** argv) { return relayd::relayd_main(argc, argv); }
