/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef NIC82599_MMIO_H
#define NIC82599_MMIO_H

/**
 * @file
 * Memory whose every access by 32 bits becomes a call.
 *
 * There is one such memory in a process. mmio_map() and mmio_unmap() are for one thread; loads and
 * stores may come from any thread at any time, and the calls are made in the thread that accesses,
 * in its handler of SIGSEGV.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** What accesses become. Offsets are in bytes from the start of the memory. */
struct mmio_bus {
	uint32_t (*read)(void *device, uint32_t offset);
	void (*write)(void *device, uint32_t offset, uint32_t value);
	void *device;
};

/**
 * Map the memory, and catch its accesses from now on.
 *
 * @param bus  what to call; stays in use until mmio_unmap()
 * @param len  in bytes, whole pages
 * @return its address, or NULL
 */
void *mmio_map(const struct mmio_bus *bus, size_t len);

/** Undo mmio_map(). */
void mmio_unmap(void);

/** How many stores were MOVDIRI, since the start of the process. */
uint64_t mmio_direct_stores(void);

#endif /* NIC82599_MMIO_H */
