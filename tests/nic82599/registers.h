/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef NIC82599_REGISTERS_H
#define NIC82599_REGISTERS_H

/**
 * @file
 * The registers, a row each:
 *
 *   name, offset, how many, distance in bytes, index of the first, value after reset,
 *   what a read does, what a write does
 *
 * Reads and writes are functions in registers.c: "plain" stores and returns, "clear" is a counter
 * that clears when read, "ro" ignores writes. A register that is only stored has no effect on
 * frames in this model: README.rst lists them by block.
 *
 * Groups carry their section of the datasheet, which gives offset, bits and reset value. An access
 * to an offset that has no row ends the test.
 */

/* clang-format off */
#define FOREACH_REGISTER(_) \
	/* 8.2.3.1 general control */ \
	_(CTRL,       0x00000,   1,    0,  0, 0,          plain,  ctrl)    \
	_(STATUS,     0x00008,   1,    0,  0, 0,          plain,  ro)      \
	_(CTRL_EXT,   0x00018,   1,    0,  0, 0,          plain,  plain)   \
	_(ESDP,       0x00020,   1,    0,  0, 0,          plain,  plain)   \
	_(I2CCTL,     0x00028,   1,    0,  0, 0x0000000f, plain,  plain)   \
	_(LEDCTL,     0x00200,   1,    0,  0, 0,          plain,  plain)   \
	_(FRTIMER,    0x00048,   1,    0,  0, 0,          plain,  ro)      \
	/* 8.2.3.2 EEPROM and flash, 8.2.3.4 PCIe, semaphores (10.5.4) */ \
	_(EEC,        0x10010,   1,    0,  0, 0x00001500, plain,  eec)     \
	_(EERD,       0x10014,   1,    0,  0, 0,          plain,  eerd)    \
	_(FLA,        0x1001c,   1,    0,  0, 0,          plain,  plain)   \
	_(EEMNGCTL,   0x10110,   1,    0,  0, 0x000c0000, plain,  ro)      \
	_(SWSM,       0x10140,   1,    0,  0, 0,          swsm,   plain)   \
	_(FWSM,       0x10148,   1,    0,  0, 0,          plain,  ro)      \
	_(SW_FW_SYNC, 0x10160,   1,    0,  0, 0,          plain,  plain)   \
	_(GRC,        0x10200,   1,    0,  0, 0,          plain,  plain)   \
	_(GCR,        0x11000,   1,    0,  0, 0,          plain,  plain)   \
	_(GCR_EXT,    0x11050,   1,    0,  0, 0,          plain,  plain)   \
	_(FACTPS,     0x10150,   1,    0,  0, 0,          plain,  ro)      \
	_(PBACL,      0x11068,   1,    0,  0, 0,          plain,  plain)   \
	/* 8.2.3.3 flow control */ \
	_(PFCTOP,     0x03008,   1,    0,  0, 0,          plain,  plain)   \
	_(FCTTV,      0x03200,   4,    4,  0, 0,          plain,  plain)   \
	_(FCRTL,      0x03220,   8,    4,  0, 0,          plain,  plain)   \
	_(FCRTH,      0x03260,   8,    4,  0, 0,          plain,  plain)   \
	_(FCRTV,      0x032a0,   1,    0,  0, 0,          plain,  plain)   \
	_(FCCFG,      0x03d00,   1,    0,  0, 0,          plain,  plain)   \
	_(TFCS,       0x0ce00,   1,    0,  0, 1,          plain,  ro)      \
	/* 8.2.3.5 interrupts */ \
	_(EICR,       0x00800,   1,    0,  0, 0,          clear,  eicr)    \
	_(EICS,       0x00808,   1,    0,  0, 0,          plain,  eics)    \
	_(EIMS,       0x00880,   1,    0,  0, 0,          plain,  eims)    \
	_(EIMC,       0x00888,   1,    0,  0, 0,          plain,  eimc)    \
	_(EIAC,       0x00810,   1,    0,  0, 0,          plain,  plain)   \
	_(EIAM,       0x00890,   1,    0,  0, 0,          plain,  plain)   \
	_(EITR,       0x00820,  24,    4,  0, 0,          plain,  plain)   \
	_(EITR_HIGH,  0x12300, 104,    4, 24, 0,          plain,  plain)   \
	_(EITRSEL,    0x00894,   1,    0,  0, 0,          plain,  plain)   \
	_(GPIE,       0x00898,   1,    0,  0, 0,          plain,  plain)   \
	_(IVAR,       0x00900,  64,    4,  0, 0,          plain,  plain)   \
	_(IVAR_MISC,  0x00a00,   1,    0,  0, 0,          plain,  plain)   \
	_(EICS_EX,    0x00a90,   2,    4,  0, 0,          plain,  ro)      \
	_(EIMS_EX,    0x00aa0,   2,    4,  0, 0,          plain,  plain)   \
	_(EIMC_EX,    0x00ab0,   2,    4,  0, 0,          plain,  ro)      \
	_(EIAM_EX,    0x00ad0,   2,    4,  0, 0,          plain,  plain)   \
	/* 8.2.3.7 receive: filters */ \
	_(FCTRL,      0x05080,   1,    0,  0, 0,          plain,  plain)   \
	_(VLNCTRL,    0x05088,   1,    0,  0, 0x00008100, plain,  plain)   \
	_(MCSTCTRL,   0x05090,   1,    0,  0, 0,          plain,  plain)   \
	_(RXCSUM,     0x05000,   1,    0,  0, 0,          plain,  plain)   \
	_(RFCTL,      0x05008,   1,    0,  0, 0,          plain,  plain)   \
	_(ETQF,       0x05128,   8,    4,  0, 0,          plain,  zero)    \
	_(MTA,        0x05200, 128,    4,  0, 0,          plain,  plain)   \
	_(MRQC,       0x05818,   1,    0,  0, 0,          plain,  plain)   \
	_(RETA,       0x05c00,  32,    4,  0, 0,          plain,  plain)   \
	_(RSSRK,      0x05c80,  10,    4,  0, 0,          plain,  plain)   \
	_(VFTA,       0x0a000, 128,    4,  0, 0,          plain,  plain)   \
	_(RAL,        0x0a200, 128,    8,  0, 0,          plain,  plain)   \
	_(RAH,        0x0a204, 128,    8,  0, 0,          plain,  plain)   \
	_(MPSAR_LO,   0x0a600, 128,    8,  0, 0,          plain,  plain)   \
	_(MPSAR_HI,   0x0a604, 128,    8,  0, 0,          plain,  plain)   \
	_(SAQF,       0x0e000, 128,    4,  0, 0,          plain,  plain)   \
	_(DAQF,       0x0e200, 128,    4,  0, 0,          plain,  plain)   \
	_(SDPQF,      0x0e400, 128,    4,  0, 0,          plain,  plain)   \
	_(FTQF,       0x0e600, 128,    4,  0, 0,          plain,  ftqf)    \
	_(L34TIMIR,   0x0e800, 128,    4,  0, 0,          plain,  plain)   \
	_(PSRTYPE,    0x0ea00,  64,    4,  0, 0,          plain,  plain)   \
	_(ETQS,       0x0ec00,   8,    4,  0, 0,          plain,  plain)   \
	_(SYNQF,      0x0ec30,   1,    0,  0, 0,          plain,  zero)    \
	_(RQTC,       0x0ec70,   1,    0,  0, 0,          plain,  plain)   \
	_(FDIRCTRL,   0x0ee00,   1,    0,  0, 0,          plain,  zero)    \
	/* 8.2.3.8 receive DMA */ \
	_(RDBAL,      0x01000,  64, 0x40,  0, 0,          plain,  plain)   \
	_(RDBAH,      0x01004,  64, 0x40,  0, 0,          plain,  plain)   \
	_(RDLEN,      0x01008,  64, 0x40,  0, 0,          plain,  plain)   \
	_(DCA_RXCTRL, 0x0100c,  64, 0x40,  0, 0,          plain,  plain)   \
	_(RDH,        0x01010,  64, 0x40,  0, 0,          plain,  plain)   \
	_(SRRCTL,     0x01014,  64, 0x40,  0, 0x00000400, plain,  plain)   \
	_(RDT,        0x01018,  64, 0x40,  0, 0,          plain,  plain)   \
	_(RXDCTL,     0x01028,  64, 0x40,  0, 0,          plain,  rxdctl)  \
	_(RSCCTL,     0x0102c,  64, 0x40,  0, 0,          plain,  rscctl)  \
	_(RDBAL_HIGH, 0x0d000,  64, 0x40, 64, 0,          plain,  plain)   \
	_(RDBAH_HIGH, 0x0d004,  64, 0x40, 64, 0,          plain,  plain)   \
	_(RDLEN_HIGH, 0x0d008,  64, 0x40, 64, 0,          plain,  plain)   \
	_(DCA_RXCTRL_HIGH, 0x0d00c, 64, 0x40, 64, 0,      plain,  plain)   \
	_(RDH_HIGH,   0x0d010,  64, 0x40, 64, 0,          plain,  plain)   \
	_(SRRCTL_HIGH, 0x0d014, 64, 0x40, 64, 0x00000400, plain,  plain)   \
	_(RDT_HIGH,   0x0d018,  64, 0x40, 64, 0,          plain,  plain)   \
	_(RXDCTL_HIGH, 0x0d028, 64, 0x40, 64, 0,          plain,  rxdctl)  \
	_(RSCCTL_HIGH, 0x0d02c, 64, 0x40, 64, 0,          plain,  rscctl)  \
	_(RDRXCTL,    0x02f00,   1,    0,  0, 0x00000008, plain,  rdrxctl) \
	_(QDE,        0x02f04,   1,    0,  0, 0,          plain,  qde)     \
	_(RXCTRL,     0x03000,   1,    0,  0, 0,          plain,  plain)   \
	_(RXPBSIZE,   0x03c00,   8,    4,  0, 0x00080000, plain,  plain)   \
	_(RSCDBU,     0x03028,   1,    0,  0, 0,          plain,  plain)   \
	/* 8.2.3.9 transmit */ \
	_(DMATXCTL,   0x04a80,   1,    0,  0, 0x81000000, plain,  plain)   \
	_(DTXTCPFLGL, 0x04a88,   1,    0,  0, 0x0ff60ff6, plain,  plain)   \
	_(DTXTCPFLGH, 0x04a8c,   1,    0,  0, 0x00000f7f, plain,  plain)   \
	_(DTXMXSZRQ,  0x08100,   1,    0,  0, 0x00000010, plain,  plain)   \
	_(MTQC,       0x08120,   1,    0,  0, 0,          plain,  plain)   \
	_(TXPBTHRESH, 0x04950,   8,    4,  0, 0,          plain,  plain)   \
	_(TXPBSIZE,   0x0cc00,   8,    4,  0, 0,          plain,  plain)   \
	_(TDBAL,      0x06000, 128, 0x40,  0, 0,          plain,  plain)   \
	_(TDBAH,      0x06004, 128, 0x40,  0, 0,          plain,  plain)   \
	_(TDLEN,      0x06008, 128, 0x40,  0, 0,          plain,  plain)   \
	_(DCA_TXCTRL, 0x0600c, 128, 0x40,  0, 0,          plain,  plain)   \
	_(TDH,        0x06010, 128, 0x40,  0, 0,          plain,  plain)   \
	_(TDT,        0x06018, 128, 0x40,  0, 0,          plain,  tdt)     \
	_(TXDCTL,     0x06028, 128, 0x40,  0, 0,          plain,  txdctl)  \
	_(TDWBAL,     0x06038, 128, 0x40,  0, 0,          plain,  zero)    \
	_(TDWBAH,     0x0603c, 128, 0x40,  0, 0,          plain,  plain)   \
	/* 8.2.3.10 DCB: arbiters are stored only */ \
	_(RTRPCS,     0x02430,   1,    0,  0, 0,          plain,  plain)   \
	_(RTTDCS,     0x04900,   1,    0,  0, 0,          plain,  plain)   \
	_(RTTPCS,     0x0cd00,   1,    0,  0, 0,          plain,  plain)   \
	_(RTRUP2TC,   0x03020,   1,    0,  0, 0,          plain,  plain)   \
	_(RTTUP2TC,   0x0c800,   1,    0,  0, 0,          plain,  plain)   \
	_(RTRPT4C,    0x02140,   8,    4,  0, 0,          plain,  plain)   \
	_(RTTDT2C,    0x04910,   8,    4,  0, 0,          plain,  plain)   \
	_(RTTPT2C,    0x0cd20,   8,    4,  0, 0,          plain,  plain)   \
	_(RTTDQSEL,   0x04904,   1,    0,  0, 0,          plain,  plain)   \
	_(RTTDT1C,    0x04908,   1,    0,  0, 0,          plain,  plain)   \
	_(RTTBCNRC,   0x04984,   1,    0,  0, 0,          plain,  plain)   \
	_(RTTBCNRM,   0x04980,   1,    0,  0, 0,          plain,  plain)   \
	/* 8.2.3.12 security: always bypassed, always ready */ \
	_(SECTXCTRL,  0x08800,   1,    0,  0, 1,          plain,  plain)   \
	_(SECTXSTAT,  0x08804,   1,    0,  0, 1,          plain,  ro)      \
	_(SECTXBUFFAF, 0x08808,  1,    0,  0, 0x00000250, plain,  plain)   \
	_(SECTXMINIFG, 0x08810,  1,    0,  0, 0x00001001, plain,  plain)   \
	_(SECRXCTRL,  0x08d00,   1,    0,  0, 1,          plain,  plain)   \
	_(SECRXSTAT,  0x08d04,   1,    0,  0, 1,          plain,  ro)      \
	/* 8.2.3.22 MAC and link */ \
	_(HLREG0,     0x04240,   1,    0,  0, 0x0000fc01, plain,  plain)   \
	_(HLREG1,     0x04244,   1,    0,  0, 0,          plain,  plain)   \
	_(MSCA,       0x0425c,   1,    0,  0, 0,          plain,  msca)    \
	_(MSRWD,      0x04260,   1,    0,  0, 0,          plain,  plain)   \
	_(MAXFRS,     0x04268,   1,    0,  0, 0x05ee0000, plain,  plain)   \
	_(PCS1GLCTL,  0x04208,   1,    0,  0, 0,          plain,  plain)   \
	_(PCS1GANA,   0x04218,   1,    0,  0, 0,          plain,  plain)   \
	_(MMNGC,      0x042d0,   1,    0,  0, 0,          plain,  ro)      \
	_(MACC,       0x04330,   1,    0,  0, 0,          plain,  plain)   \
	_(MFLCN,      0x04294,   1,    0,  0, 0,          plain,  plain)   \
	_(AUTOC,      0x042a0,   1,    0,  0, 0x00002080, plain,  plain)   \
	_(LINKS,      0x042a4,   1,    0,  0, 0,          links,  ro)      \
	_(AUTOC2,     0x042a8,   1,    0,  0, 0,          plain,  plain)   \
	_(ANLP1,      0x042b0,   1,    0,  0, 0x000a0000, plain,  ro)      \
	_(LINKS2,     0x04324,   1,    0,  0, 0,          plain,  ro)      \
	/* 8.2.3.23 statistics */ \
	_(CRCERRS,    0x04000,   1,    0,  0, 0,          clear,  ro)      \
	_(ILLERRC,    0x04004,   1,    0,  0, 0,          clear,  ro)      \
	_(ERRBC,      0x04008,   1,    0,  0, 0,          clear,  ro)      \
	_(MSPDC,      0x04010,   1,    0,  0, 0,          clear,  ro)      \
	_(MBSDC,      0x04018,   1,    0,  0, 0,          clear,  ro)      \
	_(MLFC,       0x04034,   1,    0,  0, 0,          clear,  ro)      \
	_(MRFC,       0x04038,   1,    0,  0, 0,          clear,  ro)      \
	_(RXMPC,      0x03fa0,   8,    4,  0, 0,          clear,  ro)      \
	_(RLEC,       0x04040,   1,    0,  0, 0,          clear,  ro)      \
	_(LXONTXC,    0x03f60,   1,    0,  0, 0,          clear,  ro)      \
	_(LXOFFTXC,   0x03f68,   1,    0,  0, 0,          clear,  ro)      \
	_(LXONRXCNT,  0x041a4,   1,    0,  0, 0,          clear,  ro)      \
	_(LXOFFRXCNT, 0x041a8,   1,    0,  0, 0,          clear,  ro)      \
	_(PXONRXCNT,  0x04140,   8,    4,  0, 0,          clear,  ro)      \
	_(PXOFFRXCNT, 0x04160,   8,    4,  0, 0,          clear,  ro)      \
	_(PXONTXC,    0x03f00,   8,    4,  0, 0,          clear,  ro)      \
	_(PXOFFTXC,   0x03f20,   8,    4,  0, 0,          clear,  ro)      \
	_(PXON2OFFCNT, 0x03240,  8,    4,  0, 0,          clear,  ro)      \
	_(PRC64,      0x0405c,   1,    0,  0, 0,          clear,  ro)      \
	_(PRC127,     0x04060,   1,    0,  0, 0,          clear,  ro)      \
	_(PRC255,     0x04064,   1,    0,  0, 0,          clear,  ro)      \
	_(PRC511,     0x04068,   1,    0,  0, 0,          clear,  ro)      \
	_(PRC1023,    0x0406c,   1,    0,  0, 0,          clear,  ro)      \
	_(PRC1522,    0x04070,   1,    0,  0, 0,          clear,  ro)      \
	_(GPRC,       0x04074,   1,    0,  0, 0,          clear,  ro)      \
	_(BPRC,       0x04078,   1,    0,  0, 0,          clear,  ro)      \
	_(MPRC,       0x0407c,   1,    0,  0, 0,          clear,  ro)      \
	_(GPTC,       0x04080,   1,    0,  0, 0,          clear,  ro)      \
	_(GORCL,      0x04088,   1,    0,  0, 0,          clear,  ro)      \
	_(GORCH,      0x0408c,   1,    0,  0, 0,          clear,  ro)      \
	_(GOTCL,      0x04090,   1,    0,  0, 0,          clear,  ro)      \
	_(GOTCH,      0x04094,   1,    0,  0, 0,          clear,  ro)      \
	_(RNBC,       0x03fc0,   8,    4,  0, 0,          clear,  ro)      \
	_(RUC,        0x040a4,   1,    0,  0, 0,          clear,  ro)      \
	_(RFC,        0x040a8,   1,    0,  0, 0,          clear,  ro)      \
	_(ROC,        0x040ac,   1,    0,  0, 0,          clear,  ro)      \
	_(RJC,        0x040b0,   1,    0,  0, 0,          clear,  ro)      \
	_(MNGPRC,     0x040b4,   1,    0,  0, 0,          clear,  ro)      \
	_(MNGPDC,     0x040b8,   1,    0,  0, 0,          clear,  ro)      \
	_(TORL,       0x040c0,   1,    0,  0, 0,          clear,  ro)      \
	_(TORH,       0x040c4,   1,    0,  0, 0,          clear,  ro)      \
	_(TPR,        0x040d0,   1,    0,  0, 0,          clear,  ro)      \
	_(TPT,        0x040d4,   1,    0,  0, 0,          clear,  ro)      \
	_(PTC64,      0x040d8,   1,    0,  0, 0,          clear,  ro)      \
	_(PTC127,     0x040dc,   1,    0,  0, 0,          clear,  ro)      \
	_(PTC255,     0x040e0,   1,    0,  0, 0,          clear,  ro)      \
	_(PTC511,     0x040e4,   1,    0,  0, 0,          clear,  ro)      \
	_(PTC1023,    0x040e8,   1,    0,  0, 0,          clear,  ro)      \
	_(PTC1522,    0x040ec,   1,    0,  0, 0,          clear,  ro)      \
	_(MPTC,       0x040f0,   1,    0,  0, 0,          clear,  ro)      \
	_(BPTC,       0x040f4,   1,    0,  0, 0,          clear,  ro)      \
	_(XEC,        0x04120,   1,    0,  0, 0,          clear,  ro)      \
	_(MNGPTC,     0x0cf90,   1,    0,  0, 0,          clear,  ro)      \
	_(RQSMR,      0x02300,  32,    4,  0, 0,          plain,  plain)   \
	_(TQSM,       0x08600,  32,    4,  0, 0,          plain,  plain)   \
	_(QPRC,       0x01030,  16, 0x40,  0, 0,          clear,  ro)      \
	_(QBRC_L,     0x01034,  16, 0x40,  0, 0,          clear,  ro)      \
	_(QBRC_H,     0x01038,  16, 0x40,  0, 0,          clear,  ro)      \
	_(QPRDC,      0x01430,  16, 0x40,  0, 0,          clear,  ro)      \
	_(QPTC,       0x08680,  16,    4,  0, 0,          clear,  ro)      \
	_(QBTC_L,     0x08700,  16,    8,  0, 0,          clear,  ro)      \
	_(QBTC_H,     0x08704,  16,    8,  0, 0,          clear,  ro)      \
	_(SSVPC,      0x08780,   1,    0,  0, 0,          clear,  ro)      \
	/* 8.2.3.13, 8.2.3.16, 8.2.3.17: statistics of LinkSec, FCoE and flow director, all off */ \
	_(LSECTX,     0x08a3c,   5,    4,  0, 0,          clear,  ro)      \
	_(LSECRX,     0x08f40,  17,    4,  0, 0,          clear,  ro)      \
	_(FCCRC,      0x05118,   1,    0,  0, 0,          clear,  ro)      \
	_(FCOERPDC,   0x0241c,   1,    0,  0, 0,          clear,  ro)      \
	_(FCLAST,     0x02424,   1,    0,  0, 0,          clear,  ro)      \
	_(FCOEPRC,    0x02428,   1,    0,  0, 0,          clear,  ro)      \
	_(FCOEDWRC,   0x0242c,   1,    0,  0, 0,          clear,  ro)      \
	_(FCOEPTC,    0x08784,   1,    0,  0, 0,          clear,  ro)      \
	_(FCOEDWTC,   0x08788,   1,    0,  0, 0,          clear,  ro)      \
	_(FDIRFREE,   0x0ee38,   1,    0,  0, 0,          plain,  ro)      \
	_(FDIRLEN,    0x0ee4c,   1,    0,  0, 0,          plain,  ro)      \
	_(FDIRUSTAT,  0x0ee50,   1,    0,  0, 0,          clear,  ro)      \
	_(FDIRFSTAT,  0x0ee54,   1,    0,  0, 0,          clear,  ro)      \
	_(FDIRMATCH,  0x0ee58,   1,    0,  0, 0,          clear,  ro)      \
	_(FDIRMISS,   0x0ee5c,   1,    0,  0, 0,          clear,  ro)      \
	/* 8.2.3.24 wake-up, 8.2.3.25 management: nothing is there */ \
	_(WUC,        0x05800,   1,    0,  0, 0,          plain,  plain)   \
	_(WUFC,       0x05808,   1,    0,  0, 0,          plain,  plain)   \
	_(MANC,       0x05820,   1,    0,  0, 0,          plain,  ro)      \
	/* 8.2.3.27 virtualization */ \
	_(PFVTCTL,    0x051b0,   1,    0,  0, 0,          plain,  plain)   \
	_(PFVFRE,     0x051e0,   2,    4,  0, 0,          plain,  plain)   \
	_(PFVFTE,     0x08110,   2,    4,  0, 0,          plain,  plain)   \
	_(PFVMTXSW,   0x05180,   2,    4,  0, 0,          plain,  plain)   \
	_(PFVFSPOOF,  0x08200,   8,    4,  0, 0,          plain,  zero)    \
	_(PFDTXGSWC,  0x08220,   1,    0,  0, 0,          plain,  plain)   \
	_(PFVMVIR,    0x08000,  64,    4,  0, 0,          plain,  zero)    \
	_(PFVML2FLT,  0x0f000,  64,    4,  0, 0,          plain,  plain)   \
	_(PFVLVF,     0x0f100,  64,    4,  0, 0,          plain,  plain)   \
	_(PFVLVFB,    0x0f200, 128,    4,  0, 0,          plain,  plain)   \
	_(PFUTA,      0x0f400, 128,    4,  0, 0,          plain,  plain)   \
	_(PFMRCTL,    0x0f600,   4,    4,  0, 0,          plain,  zero)    \
	_(PFMRVLAN,   0x0f610,   8,    4,  0, 0,          plain,  plain)   \
	_(PFMRVM,     0x0f630,   8,    4,  0, 0,          plain,  plain)

/*
 * Registers that can be reached under a second offset: where, how many, distance; the first
 * offset, distance. 8.2.3.7 and 8.2.3.8 give both for the first 16 of these.
 */
#define FOREACH_ALIAS(_) \
	_(0x05400, 16, 8, RAL, 8) \
	_(0x05404, 16, 8, RAH, 8) \
	_(0x05480, 16, 4, PSRTYPE, 4) \
	_(0x02100, 16, 4, SRRCTL, 0x40) \
	_(0x02200, 16, 4, DCA_RXCTRL, 0x40) \
	_(0x07300,  8, 4, TQSM, 4) \
	_(0x06030, 16, 0x40, QPTC, 4) /* (driver): where the 82598 had them */ \
	_(0x06034, 16, 0x40, QBTC_L, 8)
/* clang-format on */

#define REGISTER_ENUM(name, offset, count, stride, first, reset, rd, wr) name = offset,
enum register_name { FOREACH_REGISTER(REGISTER_ENUM) };

/** @name Bits, by register */
/**@{*/
#define CTRL_LRST 0x00000008u
#define CTRL_RST 0x04000000u
#define EEC_REQ 0x00000040u
#define EEC_GNT 0x00000080u
#define EERD_START 0x00000001u
#define EERD_DONE 0x00000002u
#define SWSM_SMBI 0x00000001u
#define MSCA_COMMAND 0x40000000u
#define LINKS_UP 0x40000000u
#define LINKS_SPEED_10G 0x30000000u
#define EICR_LSC 0x00100000u
#define FCTRL_MPE 0x00000100u
#define FCTRL_UPE 0x00000200u
#define FCTRL_BAM 0x00000400u
#define VLNCTRL_VFE 0x40000000u
#define MCSTCTRL_MFE 0x00000004u
#define RAH_AV 0x80000000u
#define FTQF_ENABLE 0x80000000u
#define HLREG0_JUMBOEN 0x00000004u
#define HLREG0_LPBK 0x00008000u
#define MRQC_MRQE 0x0000000fu
#define RXCTRL_RXEN 0x00000001u
#define RXDCTL_ENABLE 0x02000000u
#define RXDCTL_VME 0x40000000u
#define RSCCTL_RSCEN 0x00000001u
#define RDRXCTL_DMAIDONE 0x00000008u
#define RDRXCTL_CRCSTRIP 0x00000002u
#define SRRCTL_BSIZEPACKET 0x0000001fu
#define SRRCTL_DROP_EN 0x10000000u
#define SRRCTL_DESCTYPE 0x0e000000u
#define SRRCTL_DESCTYPE_ADV_ONE 0x02000000u
#define TXDCTL_SWFLSH 0x04000000u
#define TXDCTL_ENABLE 0x02000000u
#define DMATXCTL_TE 0x00000001u
#define MTQC_RT_ENA 0x00000001u
#define MTQC_VT_ENA 0x00000002u
#define MTQC_NUM 0x0000000cu
#define PFVTCTL_VT_ENA 0x00000001u
#define PFVTCTL_DEF_PL_SHIFT 7
#define PFVTCTL_DIS_DEF_POOL 0x20000000u
#define PFVTCTL_RPL_EN 0x40000000u
#define PFVML2FLT_AUPE 0x01000000u
#define PFVML2FLT_ROMPE 0x02000000u
#define PFVML2FLT_ROPE 0x04000000u
#define PFVML2FLT_BAM 0x08000000u
#define PFVML2FLT_MPE 0x10000000u
#define PFVLVF_VI_EN 0x80000000u
#define PFDTXGSWC_LBEN 0x00000001u
/**@}*/

#endif /* NIC82599_REGISTERS_H */
