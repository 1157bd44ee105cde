/* A slow disk: every fdatasync and fsync of the process takes SLOW_SYNC_US microseconds longer and is counted in the
   first 8 bytes of the file SLOW_SYNC_COUNT. Loaded with LD_PRELOAD. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static uint64_t *count;
static struct timespec pause_time;

__attribute__((constructor)) static void start(void) {
  const char *us = getenv("SLOW_SYNC_US"), *file = getenv("SLOW_SYNC_COUNT");
  if (!us || !file) return;
  long wait = atol(us);
  pause_time.tv_sec = wait / 1000000;
  pause_time.tv_nsec = wait % 1000000 * 1000;
  int fd = open(file, O_RDWR | O_CREAT, 0600);
  if (fd < 0 || ftruncate(fd, sizeof *count)) return;
  void *map = mmap(0, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map != MAP_FAILED) count = map;
}

static void slow(void) {
  if (!count) return;
  __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
  nanosleep(&pause_time, 0);
}

int fdatasync(int fd) {
  slow();
  return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd) {
  slow();
  return (int)syscall(SYS_fsync, fd);
}
