/* Loaded into a master: calls to files below DISK fail with EIO, as the file DISK_ERRORS says: which kind of call, how many
   of them from now on, and what the path of the file contains. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, READ = 3 };

struct order {
  int64_t kind;
  int64_t left;
  char part[112];
};

static struct order *order;
static const char *disk;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("DISK_ERRORS");
  disk = getenv("DISK");
  int file = path && disk ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
  if (file < 0 || ftruncate(file, sizeof *order) != 0) return;
  void *shared = mmap(0, sizeof *order, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (shared != MAP_FAILED) order = shared;
  close(file);
}

static int fails(int file, int64_t kind) {
  if (!order || __atomic_load_n(&order->left, __ATOMIC_ACQUIRE) <= 0 || order->kind != kind) return 0;
  char link[64], path[4096];
  int kept = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  errno = kept;
  if (length < 0) return 0;
  path[length] = 0;
  if (strncmp(path, disk, strlen(disk)) != 0 || !strstr(path + strlen(disk), order->part)) return 0;
  if (__atomic_fetch_sub(&order->left, 1, __ATOMIC_ACQ_REL) <= 0) return 0;
  errno = EIO;
  return 1;
}

#define CALL(kind, type, name, parameters, arguments)            \
  type name parameters {                                         \
    static type(*real) parameters;                               \
    if (!real) real = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
    return fails(file, kind) ? -1 : real arguments;              \
  }

CALL(WRITE, ssize_t, write, (int file, const void *from, size_t bytes), (file, from, bytes))
CALL(WRITE, ssize_t, pwrite, (int file, const void *from, size_t bytes, off_t at), (file, from, bytes, at))
CALL(WRITE, ssize_t, pwrite64, (int file, const void *from, size_t bytes, off64_t at), (file, from, bytes, at))
CALL(READ, ssize_t, read, (int file, void *to, size_t bytes), (file, to, bytes))
CALL(READ, ssize_t, pread, (int file, void *to, size_t bytes, off_t at), (file, to, bytes, at))
CALL(READ, ssize_t, pread64, (int file, void *to, size_t bytes, off64_t at), (file, to, bytes, at))
CALL(SYNC, int, fsync, (int file), (file))
CALL(SYNC, int, fdatasync, (int file), (file))
