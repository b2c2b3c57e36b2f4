# SPDX-License-Identifier: BSD-3-Clause
#
# make          build build/app/vhost-switch; VHOST_CUSE=y: with /dev/NAME for guests, by libfuse 3
# make demo     install what it needs, build, show it at work, clean up
# make check    install what the tests need, run every test
# make soak     long forms of some tests, two hours: frames and reloads in great numbers, more VMs
# make bench    measure against its peers; BENCH='--rounds 10' passes arguments on
# make doc      build the guide
# make check-guide look at every page of it in Chromium; GUIDE='--shots DIR' keeps pictures
# make asan     build build/asan/vhost-switch with AddressSanitizer
# make nic82599 build the model of the 82599 that tests load, build/nic82599/libnic82599.so
# make debian13 build with Debian 13's DPDK and test that, in a chroot below build/
# make install  into PREFIX (default /usr/local), below DESTDIR

PREFIX ?= /usr/local
BUILD  ?= build
PYTHON ?= /usr/bin/python3
PKGCONF ?= pkg-config

# make V=1 shows the commands.
Q := $(if $(V),,@)

APP := $(BUILD)/app/vhost-switch
ASAN := $(BUILD)/asan/vhost-switch

SRCS := main.c thread.c $(sort $(wildcard cli/*.c control/*.c log/*.c port/*.c process/*.c \
	stats/*.c switch/*.c uplink/*.c vhost/*.c))
ifeq ($(VHOST_CUSE),y)
SRCS += $(sort $(wildcard cuse/*.c))
CUSE_CFLAGS = -DVHOST_CUSE $(patsubst -I%,-isystem %,$(shell $(PKGCONF) --cflags fuse3))
CUSE_LIBS = $(shell $(PKGCONF) --libs fuse3)
endif
MODEL := $(BUILD)/nic82599/libnic82599.so
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(sort $(wildcard tests/unit/test_*.c)))
HELPERS := $(patsubst tests/system/%.c,$(BUILD)/system/%,$(sort $(wildcard tests/system/*.c)))

# Deferred, so that "make demo" can install DPDK before it is asked for. DPDK's headers are
# taken as the system's: they are not held to this project's warnings.
DPDK_CFLAGS = $(patsubst -I%,-isystem %,$(shell $(PKGCONF) --cflags libdpdk))
# The ixgbe PMD is linked for its own calls (rte_pmd_ixgbe.h); the others are plugins of EAL.
DPDK_LIBS = $(shell $(PKGCONF) --libs libdpdk) -lrte_net_ixgbe

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
	-Wpointer-arith -Wcast-qual -Wwrite-strings -Wvla -Wundef -Werror
CFLAGS ?= -O3 -g
# rte_eth_link_speed_to_str() is still experimental in 22.11. Functions begin with a cache line, so
# that the copying loops are as fast whatever is linked before them: up to 5 % otherwise.
ALL_CFLAGS = -DALLOW_EXPERIMENTAL_API -std=gnu11 -D_GNU_SOURCE -I. \
	$(WARNINGS) $(CFLAGS) $(DPDK_CFLAGS) $(CUSE_CFLAGS) -MMD -MP
# DPDK's hash reads words at any address.
ASAN_FLAGS := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-sanitize=alignment

all: $(APP)

# Changes with VHOST_CUSE, so that nothing is linked of both kinds.
FLAVOUR := $(if $(filter y,$(VHOST_CUSE)),cuse,plain)
ifneq ($(FLAVOUR),$(shell cat $(BUILD)/flavour 2>/dev/null))
$(BUILD)/flavour: force
endif
$(BUILD)/flavour:
	@mkdir -p $(@D)
	@echo $(FLAVOUR) > $@
force:

# What --version prints. A tree without git has none, unless make is told: make VERSION=1.0
VERSION ?= $(or $(shell git describe --tags --always --dirty 2>/dev/null),unreleased)
ifneq ($(VERSION),$(shell cat $(BUILD)/version 2>/dev/null))
$(BUILD)/version: force
endif
$(BUILD)/version:
	@mkdir -p $(@D)
	@echo "$(VERSION)" > $@

$(BUILD)/obj/main.o $(BUILD)/asan-obj/main.o: $(BUILD)/version
$(BUILD)/obj/main.o $(BUILD)/asan-obj/main.o: ALL_CFLAGS += -DSWITCH_VERSION='"$(VERSION)"'

$(APP): $(SRCS:%.c=$(BUILD)/obj/%.o)
	@mkdir -p $(@D)
	$(Q)echo "  CC      $@"; $(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(DPDK_LIBS) $(CUSE_LIBS)

$(BUILD)/obj/%.o: %.c Makefile $(BUILD)/flavour
	@mkdir -p $(@D)
	$(Q)echo "  CC      $@"; $(CC) $(ALL_CFLAGS) -c -o $@ $<

asan: $(ASAN)

$(ASAN): $(SRCS:%.c=$(BUILD)/asan-obj/%.o)
	@mkdir -p $(@D)
	$(Q)echo "  CC      $@"; $(CC) $(LDFLAGS) $(ASAN_FLAGS) -o $@ $(filter %.o,$^) $(DPDK_LIBS) $(CUSE_LIBS)

$(BUILD)/asan-obj/%.o: %.c Makefile $(BUILD)/flavour
	@mkdir -p $(@D)
	$(Q)echo "  CC      $@"; $(CC) $(ALL_CFLAGS) $(ASAN_FLAGS) -c -o $@ $<

# A unit test is one file, linked with every room but main.c.
unit: $(UNIT)

$(BUILD)/unit/test_notify: LDFLAGS += -Wl,--wrap=syscall

# The part of cuse/ that needs no libfuse is tested in every build.
TRANSLATOR := $(addprefix $(BUILD)/obj/cuse/,translator.o backend.o descriptor.o memory.o)
$(TRANSLATOR) $(BUILD)/unit/test_translator: ALL_CFLAGS += -DVHOST_CUSE
$(BUILD)/unit/test_translator: $(TRANSLATOR)

# Hostile virtqueues, with AddressSanitizer; librte_vhost is played.
FUZZ := $(BUILD)/unit/fuzz_rings $(BUILD)/unit/fuzz_flows
FUZZ_WRAPS := get_vring_base set_vring_base get_vhost_vring get_mem_table get_negotiated_features \
	get_vring_num log_write

asan: $(FUZZ)

$(FUZZ): $(BUILD)/unit/%: tests/unit/%.c $(filter-out $(BUILD)/asan-obj/main.o,$(SRCS:%.c=$(BUILD)/asan-obj/%.o))
	@mkdir -p $(@D)
	$(Q)echo "  CC      $@"; $(CC) $(ALL_CFLAGS) $(ASAN_FLAGS) $(FUZZ_WRAPS:%=-Wl,--wrap=rte_vhost_%) \
		$(LDFLAGS) -o $@ $(filter %.c %.o,$^) $(DPDK_LIBS) $(CUSE_LIBS)

# Parts of the model, tested without DPDK. The trap of its registers: what compilers make of accesses is
# compiled in many ways, also by clang where there is one.
REGISTER_FORMS := gcc,O1,x86-64 gcc,O2,x86-64 gcc,O3,x86-64 gcc,Os,x86-64 gcc,O2,x86-64-v3 \
	gcc,O2,x86-64-v4 gcc,O2,x86-64,movdiri folded,O2,x86-64 folded,O3,x86-64-v3 folded,Os,x86-64
ifneq ($(shell command -v clang),)
REGISTER_FORMS += clang,O1,x86-64 clang,O2,x86-64 clang,O3,x86-64-v3 clang,Os,x86-64-v3 \
	clang,O2,x86-64,movdiri
endif
REGISTER_FORM_OBJS := $(REGISTER_FORMS:%=$(BUILD)/unit/forms/%.o)
MODEL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -I. $(WARNINGS) -g -MMD -MP
comma := ,
word_of = $(word $(1),$(subst $(comma), ,$(2)))

$(BUILD)/unit/test_mmio: tests/unit/test_mmio.c $(REGISTER_FORM_OBJS) tests/nic82599/mmio.c \
		tests/nic82599/instruction.c
	$(Q)echo "  CC      $@"; $(CC) $(MODEL_CFLAGS) -O1 $(LDFLAGS) -o $@ $(filter %.c %.o,$^) -lcmocka -pthread

$(BUILD)/unit/test_segment: tests/unit/test_segment.c tests/nic82599/segment.c
	@mkdir -p $(@D)
	$(Q)echo "  CC      $@"; $(CC) $(MODEL_CFLAGS) -O1 $(LDFLAGS) -o $@ $(filter %.c %.o,$^) -lcmocka

$(BUILD)/unit/forms/%.o: tests/unit/register_forms.c tests/unit/register_forms.h Makefile
	@mkdir -p $(@D)
	$(Q)$(if $(filter clang,$(call word_of,1,$*)),clang,$(CC)) $(filter-out -MMD -MP,$(MODEL_CFLAGS)) \
		-$(call word_of,2,$*) -march=$(call word_of,3,$*) $(addprefix -m,$(call word_of,4,$*)) \
		-fno-strict-aliasing -Wno-error -DACCESS=$(if $(filter folded,$(call word_of,1,$*)),,volatile) \
		-DCOMPILED='"$*"' -DNEEDS='"$(call word_of,3,$*)"' -c -o $@ $<

$(BUILD)/unit/%: tests/unit/%.c $(filter-out $(BUILD)/obj/main.o,$(SRCS:%.c=$(BUILD)/obj/%.o))
	@mkdir -p $(@D)
	$(Q)echo "  CC      $@"; $(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(filter %.c %.o,$^) $(DPDK_LIBS) $(CUSE_LIBS) -lcmocka

# Programs that system tests run.
system: $(HELPERS)

$(HELPERS): $(BUILD)/system/%: tests/system/%.c Makefile
	@mkdir -p $(@D)
	$(Q)echo "  CC      $@"; $(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $< $(DPDK_LIBS)

# The model is a plugin to DPDK: it needs the driver's side of DPDK's interface.
DOORBELL := $(BUILD)/nic82599/libdoorbell.so

nic82599: $(MODEL) $(DOORBELL)

$(DOORBELL): tests/nic82599/doorbell.c Makefile
	@mkdir -p $(@D)
	$(Q)echo "  CC      $@"; $(CC) $(ALL_CFLAGS) -fPIC -shared -o $@ $<

$(MODEL): $(filter-out %/doorbell.c,$(sort $(wildcard tests/nic82599/*.[ch]))) $(BUILD)/nic82599/include/.complete Makefile
	$(Q)echo "  CC      $@"; $(CC) $(ALL_CFLAGS) -DALLOW_INTERNAL_API -fPIC -shared \
		-isystem $(BUILD)/nic82599/include -o $@ $(filter %.c,$^) $(DPDK_LIBS) \
		-lrte_bus_pci -lrte_bus_vdev

$(BUILD)/nic82599/include/.complete: tests/nic82599/headers
	$(Q)echo "  GET     $(@D)"; tests/nic82599/headers $(@D)

# A make that this one starts builds with all CPUs, unless the user said how many.
ALL_CPUS = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))

demo:
	@tests/install build demo
	@$(MAKE) --no-print-directory $(ALL_CPUS) all $(BUILD)/bench/drain
	@$(PYTHON) tests/system/demo.py $(APP)

check:
	@tests/install build demo check cuse doc
	@$(MAKE) --no-print-directory $(ALL_CPUS) all asan unit system nic82599 doc $(BUILD)/bench/drain
	@$(MAKE) --no-print-directory $(ALL_CPUS) VHOST_CUSE=y BUILD=$(BUILD)/cuse all
	@$(PYTHON) tests/run.py

soak: all asan system nic82599
	$(foreach fuzz,$(FUZZ),$(fuzz) 10000000 &&) true
	OFFLOAD_FRAMES=200 FLOW_MIB=1024 FLOOD_FRAMES=100000000 FLOOD_SECONDS=60 \
	EVIL_FRAMES=10000000 SLICES=200 RELOADS=10000 QUIET=all RESTARTS=10 QEMUS=8 \
	WIRES=af_packet,tap,82599 ARRIVALS=10000 $(PYTHON) -m pytest -p no:cacheprovider -v -s \
		tests/system/test_offloads.py tests/system/test_flood.py \
		tests/system/test_reload.py::test_reloads_leave_nothing_behind \
		tests/system/test_82599.py::test_arrivals_and_departures_with_traffic \
		tests/vm/test_flows.py tests/vm/test_quiet_vm.py tests/vm/test_ports_vm.py

debian13:
	@tests/debian13 $(BUILD)/debian13

BENCHES := $(patsubst bench/%.c,$(BUILD)/bench/%,$(sort $(wildcard bench/*.c)))

bench:
	@tests/install build bench
	@$(MAKE) --no-print-directory $(ALL_CPUS) all $(BENCHES)
	@$(PYTHON) bench/bench.py $(BENCH)

$(BUILD)/bench/copy: $(BUILD)/obj/switch/copy.o
$(BUILD)/bench/notify: $(BUILD)/obj/vhost/notify.o

$(BUILD)/bench/%: bench/%.c Makefile
	@mkdir -p $(@D)
	$(Q)echo "  CC      $@"; $(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(filter %.c %.o,$^) $(DPDK_LIBS)

# Every page in headless Chromium: contrast of text, nothing wider than the page.
check-guide:
	@tests/install doc check-guide
	@$(MAKE) --no-print-directory doc
	@$(PYTHON) tests/guide_pages.py $(GUIDE)

doc: man
	@$(PYTHON) -m sphinx -q -W -a -b html doc $(BUILD)/doc/html

# The man pages have a tree of their own. Without Sphinx there are none.
BUILD_MAN = $(PYTHON) -m sphinx -q -W -b man -c doc -D master_doc=vhost-switch \
	-d $(BUILD)/doc/man/.doctrees doc/man $(BUILD)/doc/man

man:
	@$(BUILD_MAN)

# The sample settings never go to /etc by themselves.
install: all
	install -D -m 755 $(APP) $(DESTDIR)$(PREFIX)/bin/vhost-switch
	install -m 755 qemu-wrap.py $(DESTDIR)$(PREFIX)/bin
	install -D -m 644 packaging/vhost-switch.default \
		$(DESTDIR)$(PREFIX)/share/vhost-switch/vhost-switch.default
	install -m 644 packaging/ports.conf $(DESTDIR)$(PREFIX)/share/vhost-switch/ports.conf
	install -D -m 644 packaging/vhost-switch.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/vhost-switch
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|@PREFIX@|$(PREFIX)|' packaging/vhost-switch.service.in \
		> $(DESTDIR)$(PREFIX)/lib/systemd/system/vhost-switch.service
	if $(PYTHON) -c 'import sphinx' 2>/dev/null; then \
		$(BUILD_MAN) && install -d $(DESTDIR)$(PREFIX)/share/man/man1 && \
		install -m 644 $(BUILD)/doc/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1; \
	else echo "no man pages: python3-sphinx is not installed"; fi

clean:
	rm -rf $(BUILD)

.PHONY: all force asan unit system nic82599 demo check soak check-guide debian13 bench doc man \
	install clean
-include $(shell find $(BUILD) -path $(BUILD)/debian13 -prune -o -name '*.d' -print 2>/dev/null)
