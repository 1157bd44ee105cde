# Builds librocksdb.a from the sources inside the librocksdb-sys crate, once per machine.
# Called by ./x with: SRC (the crate), OUT (where objects and the library go), LZ4 and ZSTD (header directories).
# -O2 without debug information: a third of the time and a thirtieth of the size of cargo's own dev build of it.
# x86-64: SSE 4.2 and PCLMUL (2010 and later), which RocksDB's CRC32C needs to be fast.

FILES := $(filter-out util/build_version.cc,$(shell cat $(SRC)/rocksdb_lib_sources.txt))
OBJS  := $(FILES:%.cc=$(OUT)/obj/%.o) $(OUT)/obj/build_version.o
ARCH  := $(if $(filter x86_64,$(shell uname -m)),-msse2 -msse4.1 -msse4.2 -mpclmul)
CXXFLAGS := -std=c++20 -O2 -fPIC -ffunction-sections -fdata-sections -fno-rtti -w $(ARCH) -include cstdint \
  -DNDEBUG=1 -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION -DLZ4=1 -DZSTD=1 -DOS_LINUX \
  -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX -DROCKSDB_SCHED_GETCPU_PRESENT \
  -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT \
  -I$(SRC)/rocksdb/include -I$(SRC)/rocksdb -I$(SRC)/rocksdb/third-party/gtest-1.8.1/fused-src -I$(SRC) \
  -I$(LZ4) -I$(ZSTD)

$(OUT)/librocksdb.a: $(OBJS)
	rm -f $@.new && ar crs $@.new $(OBJS) && mv $@.new $@

$(OUT)/obj/%.o: $(SRC)/rocksdb/%.cc
	@mkdir -p $(@D)
	@echo "  C++ $*.cc"
	@g++ $(CXXFLAGS) -c $< -o $@.new && mv $@.new $@

$(OUT)/obj/build_version.o: $(SRC)/build_version.cc
	@mkdir -p $(@D)
	@g++ $(CXXFLAGS) -c $< -o $@.new && mv $@.new $@
