/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUEST_FAULT_H
#define GUEST_FAULT_H

/**
 * @file
 * Guests whose memory goes away.
 *
 * The memory of a guest is a file that its front end has open as well. When that cuts the file off,
 * whoever touches what is missing gets SIGBUS, which would end the switch and all other guests with
 * it. Instead the handler puts empty memory in the place of the guest's, sees to it that the guest
 * is switched off, and lets the thread go on. Any other SIGBUS ends the program as ever.
 *
 * The handler runs in whichever thread touched the memory: a worker, or librte_vhost's thread. It
 * finds the guest's mappings in a table that control writes before anybody may touch them.
 */

#include <stdbool.h>

/**
 * Install the handler. Main thread, when EAL runs.
 *
 * @return 0 or a negative errno
 */
int fault_init(void);

/**
 * Note where the memory of a front end is mapped now. Control, before its rings are looked at.
 *
 * @param vid librte_vhost's handle
 */
void fault_watch(int vid);

/**
 * Say what is to become of a guest. Control.
 *
 * @param vid librte_vhost's handle
 * @param off set by the handler when the memory is gone; NULL: no such guest any more
 * @param wake_fd eventfd that the handler then writes to
 */
void fault_report(int vid, bool *off, int wake_fd);

/**
 * Forget the mappings of a connection that has ended. Control.
 *
 * @param vid librte_vhost's handle
 */
void fault_forget(int vid);

/**
 * Whether memory of a front end has gone. Any thread.
 *
 * @param vid librte_vhost's handle
 */
bool fault_happened(int vid);

#endif /* GUEST_FAULT_H */
