#pragma once

#include <string>

// What systemd, or whoever plays its part, is told of relayd (sd_notify(3), Type=notify-reload): READY=1 once
// every service has served, RELOADING=1 and READY=1 around a reload and an upgrade, STOPPING=1. Nothing where
// NOTIFY_SOCKET is not set. Main thread.
namespace relayd {

class ServiceManager {
 public:
  ServiceManager();  // reads NOTIFY_SOCKET

  bool told_ready() const { return told_ready_; }
  void restore(bool told_ready) { told_ready_ = told_ready; }  // by the former image
  void ready();                                                // once; later calls do nothing
  void reloading();                                            // nothing before ready()
  void ready_again();                                          // the same
  void stopping() const;

 private:
  void tell(const std::string& message) const;

  std::string socket_;  // empty: nobody wants to know
  bool told_ready_ = false;
};

}  // namespace relayd
