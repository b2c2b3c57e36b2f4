/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PROCESS_CAPTURE_H
#define PROCESS_CAPTURE_H

/**
 * @file
 * Captures by dpdk-dumpcap, a secondary process that comes and goes.
 *
 * librte_pdump copies a port's frames for a process that asks for it, until that process asks for
 * the end. One that was killed never does: the copying goes on, and nobody else can capture. So
 * each request is remembered with its sender, and ended in the name of a sender that has died.
 */

/**
 * Accept captures. Main thread, after EAL's start.
 *
 * @return 0 or a negative errno
 */
int capture_open(void);

/** End captures of processes that have died. Called by the control loop. */
void capture_watch(void);

/** Accept no more captures. Main thread. */
void capture_close(void);

#endif /* PROCESS_CAPTURE_H */
